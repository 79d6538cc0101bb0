"""One measurement at a time on one device, among all runs of this user on this machine."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch

from llmlat.measure.machine.turns import taking_turns


def device_id(device: torch.device) -> str:
    """Return what tells a device from others on this machine: a GPU's UUID, or `cpu`."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else "cpu"


def alone_on(device: torch.device, folder: Path) -> AbstractContextManager[None]:
    """Hold a device within the block, waiting while another run measures on it.

    Parameters
    ----------
    device : torch.device
    folder : Path
        The run folder, which those who wait are told.
    """
    return taking_turns(device_id(device), str(device), folder)
