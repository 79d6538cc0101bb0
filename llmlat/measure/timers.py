"""The clocks that time steps. A mark is put after every step; latencies are the gaps between marks.

Synchronising before reading the clock is the timer's work, so the collector's loop is the same everywhere.
Everything that a timer needs is allocated in `reset`, before the loop.
"""

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class StepTimes:
    """The marks of one request.

    Attributes
    ----------
    marks_ns : ndarray of int64, shape (n_steps + 1,)
        Host clock at the request's start and at each step's completion.
    device_ms : ndarray of float64, shape (n_steps,)
        The steps between device events, in milliseconds; NaN where there is no device.
    """

    marks_ns: npt.NDArray[np.int64]
    device_ms: npt.NDArray[np.float64]

    @property
    def latency_ms(self) -> npt.NDArray[np.float64]:
        """The steps on the host clock, in milliseconds."""
        return np.diff(self.marks_ns) / 1e6


class Timer(Protocol):
    """A clock that marks the completion of steps."""

    def reset(self, n_steps: int) -> None:
        """Forget earlier marks and make room for a request of `n_steps` steps."""

    def mark(self) -> None:
        """Wait for the work submitted so far, and note the time."""

    def read(self) -> StepTimes:
        """Return the marks since the last reset."""


class WallTimer:
    """`time.perf_counter_ns` on the CPU, where a step is complete when it returns."""

    def __init__(self) -> None:
        self._marks: list[int] = []

    def reset(self, n_steps: int) -> None:
        """Forget earlier marks."""
        self._marks = []

    def mark(self) -> None:
        """Note the time."""
        self._marks.append(time.perf_counter_ns())

    def read(self) -> StepTimes:
        """Return the marks since the last reset."""
        marks = np.array(self._marks, dtype=np.int64)
        return StepTimes(marks, np.full(max(len(marks) - 1, 0), np.nan))


class CudaTimer:
    """A synchronised `time.perf_counter_ns`, and CUDA events around the same steps.

    The event goes into the stream before the synchronisation, so it completes with the step's last kernel and
    not after the host has noticed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[int] = []
        self._events: list[torch.cuda.Event] = []

    def reset(self, n_steps: int) -> None:
        """Forget earlier marks and make the events."""
        self._marks = []
        while len(self._events) < n_steps + 1:
            self._events.append(torch.cuda.Event(enable_timing=True))

    def mark(self) -> None:
        """Record an event, wait for it, and note the time."""
        self._events[len(self._marks)].record(torch.cuda.current_stream(self._device))
        torch.cuda.synchronize(self._device)
        self._marks.append(time.perf_counter_ns())

    def read(self) -> StepTimes:
        """Return the marks since the last reset."""
        pairs = zip(self._events[: len(self._marks)], self._events[1 : len(self._marks)], strict=False)
        device_ms = np.array([start.elapsed_time(end) for start, end in pairs], dtype=np.float64)
        return StepTimes(np.array(self._marks, dtype=np.int64), device_ms)


def make_timer(device: torch.device) -> Timer:
    """Return the timer of a device."""
    return CudaTimer(device) if device.type == "cuda" else WallTimer()
