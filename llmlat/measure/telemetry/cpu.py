"""The processor's state: how busy, by whom, how fast and how warm.

Work is counted from /proc/stat, where a container may see its host: then `cpu_utilization` and
`other_cpu_cores` are the host's, which is what a measurement shares its cores with. What this process used is
known to the nanosecond; what its children used, as far as they were known at the last `refresh`.

Clock and temperature are read with every tenth sample; where that takes more than 200 µs, as it does on large
machines, with none, but between requests. So they may be older than the sample's age says.

The system counts work in clock ticks, so rates are taken over a window that is long enough for them: the time
since the sample before at the default interval, and longer at shorter intervals or on many cores.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import psutil

from llmlat.errors import one_line
from llmlat.measure.machine.host import cpu_frequency_mhz

log = logging.getLogger(__name__)

# What takes longer than this is only read between requests; the rest of what changes slowly, now and then.
QUICK_NS = 200_000
SAMPLES_PER_GAUGE_READING = 10
REFRESH_S = 1.0
# A tick of 4 ms miscounted on every core is then less than a quarter of a core; /proc/stat has 10 ms steps.
WINDOW_S_PER_CORE = 4 * 0.004
SHORTEST_WINDOW_S = 0.09
# The processor's own sensors, by the drivers' names.
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")


class CpuSource:
    """Tells the processor's load, clock and temperature."""

    name = "cpu"

    def __init__(self) -> None:
        self._load = _Load()
        self._gauges = {
            "cpu_frequency_mhz": _Gauge("clock", cpu_frequency_mhz),
            "cpu_temperature_c": _Gauge("temperature", _temperature_c),
        }
        self._refreshed_s = -REFRESH_S
        self._n_read = 0

    def read(self) -> dict[str, float | int | None]:
        """Return the load over the last window, and the gauges as last read."""
        self._n_read += 1
        if self._n_read % SAMPLES_PER_GAUGE_READING == 0:
            for gauge in self._gauges.values():
                gauge.refresh_if_quick()
        utilization, other_cores = self._load.read()
        return {
            "cpu_utilization": utilization,
            "other_cpu_cores": other_cores,
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            **{column: gauge.value for column, gauge in self._gauges.items()},
        }

    def refresh(self) -> None:
        """Look for children, and read the slow gauges; at most once a second."""
        now_s = time.perf_counter()
        if now_s - self._refreshed_s < REFRESH_S:
            return
        self._refreshed_s = now_s
        self._load.family.refresh()
        for gauge in self._gauges.values():
            gauge.refresh()


class _Counts(NamedTuple):
    """Seconds counted so far, over all cores."""

    at_s: float
    busy_s: float
    all_s: float
    own_s: float


class _Load:
    """How busy the cores were over the last window, and how much of that was others' work."""

    def __init__(self) -> None:
        self.family = _Family()
        self._window_s = max(SHORTEST_WINDOW_S, WINDOW_S_PER_CORE * (psutil.cpu_count() or 1))
        self._counts: deque[_Counts] = deque()

    def read(self) -> tuple[float | None, float | None]:
        """Return the busy share of all cores, and the cores that others kept busy; None at first."""
        now = _Counts(time.perf_counter(), *_system_s(), self.family.used_s())
        # What remains in front is the youngest count that is a whole window old.
        while len(self._counts) > 1 and now.at_s - self._counts[1].at_s >= self._window_s:
            self._counts.popleft()
        self._counts.append(now)
        before = self._counts[0]
        elapsed_s, busy_s = now.at_s - before.at_s, now.busy_s - before.busy_s
        if elapsed_s < self._window_s or now.all_s <= before.all_s:
            return None, None
        others_s = busy_s - (now.own_s - before.own_s)
        return min(busy_s / (now.all_s - before.all_s), 1.0), max(others_s / elapsed_s, 0.0)


def _system_s() -> tuple[float, float]:
    """Return the seconds that the cores worked, and all their seconds; waiting for disks is no work."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is part of the user's.
    busy_s = sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    return busy_s, busy_s + sum(times.get(name, 0.0) for name in ("idle", "iowait", "steal"))


class _Family:
    """The processor time of this process and its children."""

    def __init__(self) -> None:
        self._children: dict[psutil.Process, float] = {}
        self._children_s = 0.0

    def refresh(self) -> None:
        """Look for children; with many processes on the machine this takes milliseconds."""
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                self._children.setdefault(child, _used_s(child))

    def used_s(self) -> float:
        """Return the seconds used so far: all of this process's, and its children's since they are known."""
        for child, before_s in list(self._children.items()):
            try:
                now_s = _used_s(child)
            except psutil.Error:
                del self._children[child]
                continue
            self._children_s += max(now_s - before_s, 0.0)
            self._children[child] = now_s
        return time.process_time() + self._children_s


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class _Gauge:
    """A reading that changes slowly: repeated beside steps only where that is quick."""

    def __init__(self, name: str, query: Callable[[], float | None]) -> None:
        self.value: float | None = None
        self._name = name
        self._query: Callable[[], float | None] | None = query
        self._quickest_ns: int | None = None

    def refresh_if_quick(self) -> None:
        """Read where the reading is known to be quick."""
        if self._quickest_ns is not None and self._quickest_ns <= QUICK_NS:
            self.refresh()

    def refresh(self) -> None:
        """Read, and note how long it took; what is not there is not asked for again."""
        if self._query is None:
            return
        began_ns = time.perf_counter_ns()
        try:
            self.value = self._query()
        except Exception as error:
            self.value = None
            log.info(
                f"Telemetry goes on without the processor's {self._name}: {one_line(error)}.",
                extra={"is_routine": True},
            )
        took_ns = time.perf_counter_ns() - began_ns
        # Whatever else the machine does only adds to it.
        self._quickest_ns = took_ns if self._quickest_ns is None else min(self._quickest_ns, took_ns)
        if self.value is None:
            self._query = None


def _temperature_c() -> float | None:
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    for name in SENSORS:
        if sensors.get(name):
            return max(float(sensor.current) for sensor in sensors[name])
    return None
