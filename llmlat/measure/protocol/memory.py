"""Out of memory is a result: what did not fit, what it wanted, and what need not be tried after it."""

import re
import sys
from collections.abc import Iterable
from typing import Any

import psutil
import torch

from llmlat.measure.machine.host import if_told
from llmlat.measure.prompts import Request

OUT_OF_MEMORY = "out_of_memory"
LARGER = "larger_than_one_that_did_not_fit"

_KNOWN_OF_MISFITS = ("at_token", "wanted_bytes", "memory_total_bytes", "memory_peak_bytes")
_UNITS = {"bytes": 1, "byte": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_WANTED = re.compile(rf"(?:tried|unable) to allocate ([\d.]+) ({'|'.join(_UNITS)})", re.IGNORECASE)


def wanted_bytes(error: BaseException) -> int | None:
    """Return how much memory an allocator was asked for when it gave up, where its message says so."""
    match = _WANTED.search(str(error))
    if match is None:
        return None
    unit = next(size for name, size in _UNITS.items() if name.lower() == match[2].lower())
    return round(float(match[1]) * unit)


def memory_state(device: torch.device) -> dict[str, int | None]:
    """Return the memory that there is, and the most that this process has held of it."""
    if device.type == "cuda":
        total: int | None = torch.cuda.get_device_properties(device).total_memory
        peak: int | None = torch.cuda.max_memory_allocated(device)
    else:
        total, peak = if_told(lambda: psutil.virtual_memory().total), _peak_of_process()
    return {"memory_total_bytes": total, "memory_peak_bytes": peak}


def _peak_of_process() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


class Misfits:
    """The requests that did not fit, against which others are held before they are tried.

    Parameters
    ----------
    skipped : iterable of dict
        What earlier sessions recorded: `llmlat.dataset.Dataset.skipped`.
    """

    def __init__(self, skipped: Iterable[dict[str, Any]] = ()) -> None:
        self._known = [entry for entry in skipped if entry["reason"] == OUT_OF_MEMORY]

    def add(
        self, request: Request, at_token: int, error: BaseException, device: torch.device
    ) -> dict[str, Any]:
        """Take down a request that ran out of memory before its token `at_token`, and return its record."""
        entry = {
            **request.describe(),
            "reason": OUT_OF_MEMORY,
            "at_token": at_token,
            "wanted_bytes": wanted_bytes(error),
            **memory_state(device),
            "because_of": None,
        }
        self._known.append(entry)
        return entry

    def larger(self, request: Request) -> dict[str, Any] | None:
        """Return the record of a request that need not be tried, or None.

        It is as large as one of the same engine that did not fit, or larger: in the rows of its batch (one
        a beam), in its longest prompt, and in the context where the other one broke off.
        """
        mine = request.describe()
        for entry in self._known:
            if _is_as_large(mine, entry):
                unknown = dict.fromkeys(_KNOWN_OF_MISFITS)
                return {**mine, "reason": LARGER, **unknown, "because_of": entry["request_id"]}
        return None


def _is_as_large(mine: dict[str, Any], misfit: dict[str, Any]) -> bool:
    return (
        mine["engine"] == misfit["engine"]
        and _rows(mine) >= _rows(misfit)
        and mine["prompt_tokens"] >= misfit["prompt_tokens"]
        and mine["prompt_tokens"] + mine["max_new_tokens"] > misfit["prompt_tokens"] + misfit["at_token"]
    )


def _rows(entry: dict[str, Any]) -> int:
    return int(entry["batch_size"]) * int(entry["num_beams"])
