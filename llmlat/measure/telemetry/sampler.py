"""The thread that samples: what is kept of the machine's state, when it was true, and what that cost.

A sample's time is taken when it is complete, so nothing in it is younger than it says. Samples are kept in
memory and nothing is written; between two samples the thread sleeps.
"""

import logging
import statistics
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import pandas as pd

from llmlat.errors import one_line
from llmlat.measure.telemetry.join import NAMES, samples_frame

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0

Reading = Mapping[str, float | int | None]


class Source(Protocol):
    """Something that knows a part of the machine's state."""

    name: str

    def read(self) -> Reading:
        """Return the columns of `llmlat.records.TELEMETRY` that it knows; quick, as it runs beside steps."""

    def refresh(self) -> None:
        """Read what is too slow to be read beside steps; called between requests."""


class StateSampler:
    """Reads its sources at an interval, within a `with` block.

    A source that fails is left out from then on, with one line in the log: its columns are empty afterwards.

    Parameters
    ----------
    sources : sequence of Source
    interval_ms : float
        From the end of a sample to the beginning of the next.
    epoch_offset_ns : int, default=0
        Added to the clock, to put the samples on the rows' clock.
    clock_ns : callable, default=time.perf_counter_ns
        The clock that times the steps.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        interval_ms: float,
        epoch_offset_ns: int = 0,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.interval_ms = interval_ms
        self.epoch_offset_ns = epoch_offset_ns
        self._clock_ns = clock_ns
        self._names = [source.name for source in sources]
        self._sources = list(sources)
        # Tuples of numbers, in the order of NAMES: nothing here is a cycle that a paused garbage collection
        # would leave lying.
        self._at_ns: list[int] = []
        self._values: list[tuple[float | int | None, ...]] = []
        self._cost_ns: list[int] = []
        self._opened_ns, self._closed_ns = clock_ns(), 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmlat-telemetry", daemon=True)

    def __enter__(self) -> Self:
        self.refresh()
        self.take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning("The telemetry's thread hangs in a query; it is left behind.")
        self._closed_ns = self._clock_ns()

    def _run(self) -> None:
        while not self._stop.wait(self.interval_ms / 1e3):
            self.take()

    def take(self) -> None:
        """Take one sample now."""
        with self._lock:
            began_ns = self._clock_ns()
            values: dict[str, float | int | None] = dict.fromkeys(NAMES)
            for source in list(self._sources):
                reading = self._ask(source, source.read)
                values.update(reading or {})
            at_ns = self._clock_ns()
            self._values.append(tuple(values.values()))
            self._at_ns.append(at_ns + self.epoch_offset_ns)
            self._cost_ns.append(at_ns - began_ns)

    def refresh(self) -> None:
        """Let the sources read what is slow; for between requests."""
        with self._lock:
            for source in list(self._sources):
                self._ask(source, source.refresh)

    def _ask(self, source: Source, question: Callable[[], Reading | None]) -> Reading | None:
        try:
            return question()
        except Exception as error:
            self._sources.remove(source)
            log.warning(f"Telemetry goes on without {source.name}: {one_line(error)}.")
            return None

    def frame(self, since_ns: int | None = None) -> pd.DataFrame:
        """Return the samples, from the last one before a time on the rows' clock, or all of them."""
        with self._lock:
            first = 0 if since_ns is None else max(bisect_left(self._at_ns, since_ns) - 1, 0)
            return samples_frame(self._at_ns[first:], self._values[first:])

    def describe(self) -> dict[str, Any]:
        """Return the sources, and what sampling cost, in microseconds a sample and as a share of time.

        The cost is wall time, the thread's waiting for the interpreter and for a core included: at most so
        much was taken from the measurement.
        """
        with self._lock:
            cost_us = [cost / 1e3 for cost in self._cost_ns]
            elapsed_us = ((self._closed_ns or self._clock_ns()) - self._opened_ns) / 1e3
        return {
            "sources": self._names,
            "interval_ms": self.interval_ms,
            "n_samples": len(cost_us),
            "sample_us": {"median": statistics.median(cost_us), "max": max(cost_us)} if cost_us else None,
            "share_of_time": sum(cost_us) / elapsed_us if elapsed_us else None,
        }
