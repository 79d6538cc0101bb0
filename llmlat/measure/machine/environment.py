"""What the measurement ran on: hardware, versions, clocks. Part of it decides the dataset's key."""

import os
from contextlib import suppress
from typing import Any

import numpy as np
import pynvml
import torch

from llmlat.measure.machine.host import cpu_model, describe_host, versions
from llmlat.measure.machine.nvml import open_device
from llmlat.measure.timers import Timer

# Another version of these is another measurement; of the others, provenance keeps what it was.
DECIDING_PACKAGES = ("torch", "transformers", "bitsandbytes")
PACKAGES = (*DECIDING_PACKAGES, "accelerate", "mistral-common", "numpy", "pandas")
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


def device_name(device: torch.device) -> str:
    """Return a person's name for the device: the GPU's, or the CPU's with its core count."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    n_threads = torch.get_num_threads()
    return f"{cpu_model()} ({n_threads} thread{'' if n_threads == 1 else 's'})"


def speed_variables() -> dict[str, str]:
    """Return the environment variables that are set and change how fast a step runs."""
    return {name: os.environ[name] for name in SPEED_VARIABLES if name in os.environ}


def hardware(device: torch.device) -> dict[str, Any]:
    """Return the part of the hardware that decides latencies, for the dataset's key."""
    return {
        "device": device.type,
        "name": device_name(device),
        "driver": nvidia_state(device).get("driver"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def describe_session(device: torch.device) -> dict[str, Any]:
    """Return everything about this process that provenance keeps: a record for each session of a dataset."""
    return {
        **describe_host(),
        "versions": versions(PACKAGES),
        "cuda": torch.version.cuda,
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
