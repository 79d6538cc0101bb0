"""What is known of the host without loading torch: processor, system, clock, versions, checkout."""

import os
import platform
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import llmlat


def describe_host() -> dict[str, Any]:
    """Return what a session's record says of the host and of its clock."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    clock = time.get_clock_info("perf_counter")
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "os": platform.platform(),
        "memory_bytes": psutil.virtual_memory().total,
        "cpu_frequency_mhz": frequency.current if frequency else None,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "clock": {
            "name": "perf_counter",
            "implementation": clock.implementation,
            "resolution_s": clock.resolution,
        },
    }


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
