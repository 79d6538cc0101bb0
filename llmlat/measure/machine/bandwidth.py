"""How fast the device's memory can be read: the floor under every decode step.

A decode step at batch 1 reads every weight to multiply it with one vector, so it cannot be quicker than the
weights' bytes over this bandwidth. It is measured by copying, since the datasheet's figure is never reached.
"""

from itertools import pairwise

import torch

from llmlat.measure.machine.device import is_out_of_memory

# Many times any cache: an H200's holds 60 MB.
_BUFFER_BYTES = 2**30
_COPIES = 20


def copy_bandwidth(device: torch.device) -> float | None:
    """Return the bytes per second, read and written, that a large copy moves within the device's memory.

    Returns
    -------
    float or None
        The median of 20 copies of 1 GiB, timed by device events; None without CUDA, or without 2 GiB free.
    """
    if device.type != "cuda":
        return None
    try:
        return _timed_copies(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        torch.cuda.empty_cache()


def _timed_copies(device: torch.device) -> float:
    source = torch.ones(_BUFFER_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(_COPIES + 1)]
    with torch.cuda.device(device):
        target.copy_(source)  # the first loads the kernel
        for event in events[:-1]:
            event.record()
            target.copy_(source)
        events[-1].record()
        torch.cuda.synchronize()
    times_ms: list[float] = sorted(start.elapsed_time(end) for start, end in pairwise(events))
    return 2 * _BUFFER_BYTES / (times_ms[_COPIES // 2] / 1e3)
