"""Pauses: what a stopped process or a sleeping machine does to a step is flagged, and nothing else is."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from llmlat.measure.frames import step_spans
from llmlat.measure.machine.pauses import INTERVAL_NS, Clocks, Pause, PauseWatch, is_suspended

MS = 1_000_000


def rows_of(begin_ms, *latencies_ms, flags=""):
    latency = pd.Series(latencies_ms, dtype="float64")
    end_ns = round(begin_ms * MS) + (latency.cumsum() * MS).round().astype("int64")
    return pd.DataFrame({"completed_at_ns": end_ns, "token_latency_ms": latency, "flags": flags})


def watch_of(*clocks_ms):
    """Return a watch whose clocks say what they are told: (steps, asleep, worked), in ms."""
    readings = iter(clocks_ms)
    return PauseWatch(read_clocks=lambda: Clocks(*(value * MS for value in next(readings))))


def test_the_step_that_a_pause_fell_into_is_flagged_and_no_other():
    watch = watch_of((0, 0, 0), (5050, 0, 40))
    rows = watch.flag(rows_of(0, 10, 10, 5020, 10))
    assert rows["flags"].tolist() == ["", "", "suspended", ""]


def test_a_pause_between_requests_flags_nothing():
    watch = watch_of((0, 0, 0), (5100, 0, 40))
    assert watch.flag(rows_of(5060, 10, 10))["flags"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("clocks_ms", "is_pause"),
    [
        ((100, 0, 100), False),  # in time
        ((340, 0, 0), False),  # a busy machine
        ((360, 0, 0), True),
        ((360, 0, 350), False),  # the thread that measures was at work, and let no other run
        ((100, 4000, 100), True),  # the machine slept, which the steps' clock does not see
    ],
)
def test_what_is_a_pause(clocks_ms, is_pause):
    rows = watch_of((0, 0, 0), clocks_ms).flag(rows_of(0, 400))
    assert rows["flags"].tolist() == ["suspended" if is_pause else ""]


def test_flags_that_there_were_stay():
    watch = watch_of((0, 0, 0), (1000, 0, 0))
    assert watch.flag(rows_of(0, 950, flags="busy_cpu"))["flags"].tolist() == ["busy_cpu;suspended"]


def test_a_pause_is_told(caplog):
    watch_of((0, 0, 0), (5100, 0, 0)).flag(rows_of(0, 5100))
    assert "Everything stood still for 5.0 s" in caplog.text


def test_every_request_in_flight_is_flagged():
    start_ns, end_ns = step_spans(pd.concat([rows_of(0, 900), rows_of(20, 890), rows_of(0, 15)]))
    assert is_suspended(start_ns, end_ns, [Pause(10 * MS, 890 * MS, 780 * MS)]).tolist() == [
        True,
        True,
        False,
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_process_that_is_stopped_notices():
    stops = (
        "import os, signal, sys, time; pid = int(sys.argv[1]); os.kill(pid, signal.SIGSTOP);"
        "time.sleep(0.8); os.kill(pid, signal.SIGCONT)"
    )
    offset_ns = time.time_ns() - time.perf_counter_ns()
    with PauseWatch(offset_ns) as watch:
        time.sleep(2 * INTERVAL_NS / 1e9)
        before_ns = time.perf_counter_ns()
        subprocess.run([sys.executable, "-c", stops, str(os.getpid())], check=True)
        latency_ms = (time.perf_counter_ns() - before_ns) / 1e6
        rows = rows_of(before_ns / 1e6 + offset_ns / 1e6, latency_ms)
        assert latency_ms > 800
        assert watch.flag(rows)["flags"].tolist() == ["suspended"]
