"""One measurement at a time on one device or server, among all runs of this user on this machine.

The kernel lets go of a dead process's lock, so there is nothing to clean up. A run that also holds its
dataset takes that first, so two runs can never wait for each other.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def taking_turns(lock_name: str, measured: str, folder: Path) -> Iterator[None]:
    """Hold what is measured within the block, waiting while another run measures it.

    Parameters
    ----------
    lock_name : str
        What tells it from others on this machine, as a file's name.
    measured : str
        Its name for a person.
    folder : Path
        The run folder, which those who wait are told.
    """
    place = _place(measured)
    if place is None:
        yield
        return
    lock, holder = FileLock(place / f"{lock_name}.lock"), place / f"{lock_name}.json"
    _acquire(lock, holder, measured)
    try:
        _sign(holder, folder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _place(measured: str) -> Path | None:
    place = Path(tempfile.gettempdir()) / f"llmlat-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        if os.access(place, os.W_OK):
            return place
        reason = "not writable"
    except OSError as error:
        reason = error.strerror or str(error)
    log.warning(f"{place}: {reason}; nothing keeps other runs from measuring on {measured} meanwhile.")
    return None


def _acquire(lock: FileLock, holder: Path, measured: str) -> None:
    with suppress(Timeout):
        lock.acquire(timeout=0)
        return
    log.info(f"Waiting for {_describe(holder)}, which measures on {measured}.")
    lock.acquire()


def _sign(holder: Path, folder: Path) -> None:
    said = {
        "pid": os.getpid(),
        "folder": str(folder),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    beside = holder.with_suffix(".tmp")
    with suppress(OSError):
        beside.write_text(json.dumps(said), encoding="utf-8")
        beside.replace(holder)


def _describe(holder: Path) -> str:
    try:
        said = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {said['pid']} ({said['folder']}, since {said['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
