"""Who else is at work on the device, which no lock of ours keeps away: noticed and recorded, never hidden."""

import logging
import os
import time
from contextlib import suppress
from typing import Any

import psutil
import pynvml
import torch

from llmlat.measure.machine.host import if_told
from llmlat.measure.machine.nvml import open_device

log = logging.getLogger(__name__)

SAMPLE_S = 0.3
BUSY_CORES = 0.5


def notice_foreign_processes(device: torch.device) -> dict[str, Any]:
    """Look for other processes at work on a device, and warn of them.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    dict
        `count`, and the `names` of those that may be seen.
    """
    pids = if_told(lambda: _on_gpu(device) if device.type == "cuda" else _on_cpu()) or []
    names = sorted(filter(None, map(_name, pids)))
    if pids:
        who = f" ({', '.join(names)})" if names else ""
        what = "1 other process is" if len(pids) == 1 else f"{len(pids)} other processes are"
        log.warning(f"{what} at work on {device}{who}: the latencies are theirs too.")
    return {"count": len(pids), "names": names}


def _name(pid: int) -> str | None:
    with suppress(psutil.Error):
        return str(psutil.Process(pid).name())
    return None


def _on_cpu() -> list[int]:
    """Return the processes that keep half a core or more busy, without this one and its children."""
    family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    before, started = _cpu_seconds(family), time.perf_counter()
    time.sleep(SAMPLE_S)
    after, elapsed = _cpu_seconds(family), time.perf_counter() - started
    return [pid for pid, used in after.items() if used - before.get(pid, used) > BUSY_CORES * elapsed]


def _cpu_seconds(family: set[int]) -> dict[int, float]:
    found = {}
    for process in psutil.process_iter(["cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid not in family:
            found[process.pid] = times.user + times.system
    return found


def _on_gpu(device: torch.device) -> list[int]:
    """Return the processes that compute on a GPU, without this one."""
    with open_device(device) as handle, suppress(pynvml.NVMLError):
        if handle is not None:
            pids = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
            return without_this_one(pids, holds_context=torch.cuda.is_initialized())
    return []


def without_this_one(pids: list[int], *, holds_context: bool) -> list[int]:
    """Return the processes on a GPU that are not this one.

    Parameters
    ----------
    pids : list of int
        As NVML tells them.
    holds_context : bool
        Whether this process is among those at work on the GPU, under whatever number.
    """
    if os.getpid() in pids:
        return [pid for pid in pids if pid != os.getpid()]
    # In a container NVML may tell the host's numbers: then one of those that cannot be seen is this process.
    unseen = [pid for pid in pids if not psutil.pid_exists(pid)]
    return [pid for pid in pids if not (holds_context and unseen and pid == unseen[0])]
