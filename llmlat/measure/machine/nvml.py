"""NVML, the driver's own view of a GPU: opened, asked and shut in one place."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pynvml
import torch

log = logging.getLogger(__name__)


@contextmanager
def open_device(device: torch.device) -> Iterator[Any | None]:
    """Give NVML's handle of a device within the block, for the functions of `pynvml`.

    Parameters
    ----------
    device : torch.device

    Yields
    ------
    object or None
        None where the device is no GPU, or NVML does not know it.
    """
    if device.type != "cuda":
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.info(f"NVML is not there ({error}): nothing is known of the GPU.", extra={"is_routine": True})
        yield None
        return
    try:
        yield _handle(device)
    finally:
        pynvml.nvmlShutdown()


def _handle(device: torch.device) -> Any | None:
    # By UUID: NVML counts all GPUs of the machine, torch those that CUDA_VISIBLE_DEVICES leaves.
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        log.info(f"NVML does not know {uuid} ({error}).", extra={"is_routine": True})
        return None
