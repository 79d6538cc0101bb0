"""What the measurement ran on: hardware, versions, clocks. Part of it decides the dataset's key."""

import os
import platform
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pynvml
import torch

import llmlat
from llmlat.measure.machine.nvml import open_device
from llmlat.measure.timers import Timer

PACKAGES = ("torch", "transformers", "bitsandbytes", "accelerate", "mistral-common", "numpy", "pandas")
# Read by torch and its libraries; the processor's thread counts are told by `hardware`.
SPEED_VARIABLES = (
    "TORCH_CUDNN_SDPA_DEPRIORITIZED",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "ONEDNN_MAX_CPU_ISA",
)
MEASURING_PACKAGES = ("torch", "transformers", "bitsandbytes")


def device_name(device: torch.device) -> str:
    """Return a person's name for the device: the GPU's, or the CPU's with its core count."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({torch.get_num_threads()} threads)"


def settings() -> dict[str, str]:
    """Return the environment variables that are set and change how fast a step runs."""
    return {name: os.environ[name] for name in SPEED_VARIABLES if name in os.environ}


def hardware(device: torch.device) -> dict[str, Any]:
    """Return the part of the hardware that decides latencies, for the dataset's key."""
    return {
        "device": device.type,
        "name": device_name(device),
        "driver": nvidia_state(device).get("driver"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def versions(packages: tuple[str, ...] = MEASURING_PACKAGES) -> dict[str, str]:
    """Return the versions of Python, llmlat and the packages that are installed."""
    found = {"python": platform.python_version(), "llmlat": llmlat.__version__}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def describe_session(device: torch.device) -> dict[str, Any]:
    """Return everything about this process that provenance keeps: a record for each session of a dataset."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    clock = time.get_clock_info("perf_counter")
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "versions": versions(PACKAGES),
        "cuda": torch.version.cuda,
        "os": platform.platform(),
        "memory_bytes": psutil.virtual_memory().total,
        "cpu_frequency_mhz": frequency.current if frequency else None,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "clock": {
            "name": "perf_counter",
            "implementation": clock.implementation,
            "resolution_s": clock.resolution,
        },
        "gpu": nvidia_state(device),
    }


def nvidia_state(device: torch.device) -> dict[str, Any]:
    """Return the GPU's driver, clocks, temperature and power as NVML reports them; empty without a GPU."""
    with open_device(device) as handle:
        if handle is None:
            return {}
        queries = {
            "driver": pynvml.nvmlSystemGetDriverVersion,
            "sm_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "max_sm_clock_mhz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "power_limit_mw": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle),
        }
        state: dict[str, Any] = {}
        for name, query in queries.items():
            with suppress(pynvml.NVMLError):
                state[name] = query()
        return state


def mark_cost_ns(timer: Timer, n_marks: int = 256) -> float:
    """Return what the collector adds to a step: the median time of one mark, with nothing to wait for.

    Parameters
    ----------
    timer : Timer
        It forgets its earlier marks.
    n_marks : int, default=256
    """
    timer.reset(n_marks)
    for _ in range(n_marks + 1):
        timer.mark()
    return float(np.median(np.diff(timer.read().marks_ns)))


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


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
