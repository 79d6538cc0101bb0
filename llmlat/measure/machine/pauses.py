"""Pauses: when this process, or the whole machine, stood still.

Ctrl-Z, a debugger, a container that is frozen, a virtual machine that is moved, a laptop that sleeps: the
clock that times the steps goes on, and a step seems to take as long as the pause. A thread sleeps a tenth of
a second at a time, and notes by how much it overslept. The clock does not go on while the machine itself
sleeps: that is told by another one, which does.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from llmlat.measure.frames import Nanoseconds, Verdict, step_spans, with_flags

log = logging.getLogger(__name__)

SUSPENDED = "suspended"
INTERVAL_NS = 100_000_000
# On a busy machine a thread oversleeps by tens of milliseconds; nobody stops a process for less than this.
SHORTEST_NS = 250_000_000


class Clocks(NamedTuple):
    """What the clocks said at one moment, in nanoseconds.

    Attributes
    ----------
    steps : int
        The one that times the steps.
    asleep : int
        How long the machine has slept since it was started; 0 where the system does not tell.
    worked : int
        The processor time of the thread that measures; 0 where the system does not tell.
    """

    steps: int
    asleep: int
    worked: int


class Pause(NamedTuple):
    """A time in which nothing ran for so long; it lies somewhere between two instants of the steps' clock."""

    since_ns: int
    until_ns: int
    lost_ns: int


class PauseWatch:
    """Notes pauses of this process and of the machine, within a `with` block.

    Parameters
    ----------
    epoch_offset_ns : int, default=0
        From the steps' clock to the rows'.
    read_clocks : callable, optional
        Returns `Clocks`; by default those of this process, with the thread that makes the watch.
    """

    def __init__(self, epoch_offset_ns: int = 0, read_clocks: Callable[[], Clocks] | None = None) -> None:
        self._offset_ns = epoch_offset_ns
        self._read_clocks = read_clocks or _clocks_of(threading.get_ident())
        self._last = self._read_clocks()
        self._pauses: list[Pause] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmlat-pauses", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_NS / 1e9):
            self.look()

    def look(self) -> None:
        """Look at the clocks, and note a pause since the last look; looks are due at an interval."""
        with self._lock:
            last, now = self._last, self._read_clocks()
            self._last = now
            late_ns = now.steps - last.steps - INTERVAL_NS
            # A thread that worked all the while only kept the others from running.
            is_stopped = late_ns >= SHORTEST_NS and now.worked - last.worked < INTERVAL_NS + late_ns // 2
            has_slept = now.asleep - last.asleep >= SHORTEST_NS
            if is_stopped or has_slept:
                lost_ns = max(late_ns, 0)
                self._pauses.append(Pause(last.steps + self._offset_ns, now.steps + self._offset_ns, lost_ns))
                total_s = (lost_ns + now.asleep - last.asleep) / 1e9
                log.warning(f"Everything stood still for {total_s:.1f} s: such rows are flagged {SUSPENDED}.")

    def flag(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return rows, flagged where a pause fell into their step; called between requests."""
        self.look()
        if rows.empty or not self._pauses:
            return rows
        found = is_suspended(*step_spans(rows), self._pauses)
        return rows.assign(flags=with_flags(rows["flags"], {SUSPENDED: found}))


def is_suspended(start_ns: Nanoseconds, end_ns: Nanoseconds, pauses: Sequence[Pause]) -> Verdict:
    """Tell for each step whether a pause fell into it: it meets the pause, and is about as long at least."""
    found = np.zeros(len(start_ns), dtype=bool)
    for pause in pauses:
        meets = (start_ns < pause.until_ns) & (end_ns > pause.since_ns)
        found |= meets & (end_ns - start_ns >= pause.lost_ns - INTERVAL_NS)
    return found


def _clocks_of(thread_id: int) -> Callable[[], Clocks]:
    """Return what reads the clocks, with a thread's processor time."""
    worked_clock = time.pthread_getcpuclockid(thread_id) if hasattr(time, "pthread_getcpuclockid") else None

    def read() -> Clocks:
        steps = time.perf_counter_ns()
        asleep = (
            time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            if hasattr(time, "CLOCK_BOOTTIME")
            else 0
        )
        worked = time.clock_gettime_ns(worked_clock) if worked_clock is not None else 0
        return Clocks(steps, asleep, worked)

    return read
