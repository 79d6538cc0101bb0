"""What is known of the host without loading torch: processor, system, clock, versions, checkout."""

import logging
import os
import platform
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import psutil

import llmlat
from llmlat.errors import one_line

log = logging.getLogger(__name__)

T = TypeVar("T")


def describe_host() -> dict[str, Any]:
    """Return what a session's record says of the host and of its clock."""
    clock = time.get_clock_info("perf_counter")
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "os": platform.platform(),
        "memory_bytes": if_told(lambda: psutil.virtual_memory().total),
        "cpu_frequency_mhz": if_told(cpu_frequency_mhz),
        "load_average": if_told(lambda: list(os.getloadavg())),
        "clock": {
            "name": "perf_counter",
            "implementation": clock.implementation,
            "resolution_s": clock.resolution,
        },
    }


def if_told(query: Callable[[], T]) -> T | None:
    """Return what the system says, or None: a container may hide /proc, and odd machines raise anything."""
    try:
        return query()
    except Exception as error:
        log.info(f"The system does not tell: {one_line(error)}.", extra={"is_routine": True})
        return None


def cpu_frequency_mhz() -> float | None:
    """Return the cores' mean clock, or None; on odd machines, raise anything."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return float(frequency.current) if frequency and frequency.current else None


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of Python, llmlat and the packages that are installed."""
    found = {"python": platform.python_version(), "llmlat": llmlat.__version__}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_state() -> dict[str, Any] | None:
    """Return the commit of the checkout that this code runs from, and whether it is changed."""
    checkout = Path(llmlat.__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return run.stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--", "llmlat")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_model() -> str:
    """Return the processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
