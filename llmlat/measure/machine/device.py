"""Which device measures, and what its running out of memory looks like."""

import errno

import torch

from llmlat.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return the device that a config names; `auto` is the first CUDA device, or the CPU.

    Raises
    ------
    ConfigError
        Where the name is no device, or the device is not here.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name}: not a device; use auto, cpu, cuda or cuda:N.") from error
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(
            f"device={name}: only the CPU and CUDA are measured; use auto, cpu, cuda or cuda:N."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "use device=auto or cpu."
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, on the device or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # The host's allocator, kernels' own allocations and cuBLAS's workspace each say it in their own words.
    return isinstance(error, RuntimeError) and any(
        words in str(error)
        for words in (
            "can't allocate memory",
            "out of memory",
            "std::bad_alloc",
            "CUBLAS_STATUS_ALLOC_FAILED",
        )
    )
