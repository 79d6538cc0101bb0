"""Telemetry as a session has it: opened, asked between requests, described, closed."""

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import psutil
import pynvml
import pytest
import torch

from llmlat.config import CollectConfig
from llmlat.errors import ConfigError
from llmlat.measure.telemetry import check_telemetry, open_telemetry
from llmlat.measure.telemetry.join import NAMES

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
OFFSET_NS = time.time_ns() - time.perf_counter_ns()
GPU_COLUMNS = NAMES[: NAMES.index("cpu_utilization")]


def rows_until_now(n, latency_ms):
    """Return rows of steps of which the last one has just ended."""
    now_ns = time.perf_counter_ns() + OFFSET_NS
    end_ns = [now_ns - round((n - 1 - k) * latency_ms * 1e6) for k in range(n)]
    return pd.DataFrame({"completed_at_ns": end_ns, "token_latency_ms": latency_ms, "flags": ""})


@pytest.mark.parametrize("interval_ms", [-1, 0.5, -0.0001, 60_001, math.nan, math.inf])
def test_an_interval_that_cannot_be_is_refused(interval_ms):
    with pytest.raises(ConfigError, match=r"^collect\.telemetry_interval_ms=\S+: use 1 to 60000"):
        check_telemetry(CollectConfig(telemetry_interval_ms=interval_ms))


@pytest.mark.parametrize("min_clock", [-0.1, 1.1, 75, math.nan])
def test_a_clock_share_that_cannot_be_is_refused(min_clock):
    with pytest.raises(ConfigError, match=r"^collect\.min_clock=\S+: use a share from 0"):
        check_telemetry(CollectConfig(min_clock=min_clock))


def test_opening_checks_too():
    refused = CollectConfig(telemetry_interval_ms=-1)
    with pytest.raises(ConfigError), open_telemetry(CPU, refused, 0):
        pass


@pytest.mark.parametrize("interval_ms", [0, 1, 60_000])
def test_what_may_be(interval_ms):
    check_telemetry(CollectConfig(telemetry_interval_ms=interval_ms))


def test_no_interval_samples_nothing(token_rows):
    with open_telemetry(CPU, CollectConfig(telemetry_interval_ms=0), OFFSET_NS) as telemetry:
        assert "llmlat-telemetry" not in {thread.name for thread in threading.enumerate()}
        rows = token_rows(0)
        pd.testing.assert_frame_equal(telemetry.annotate(rows), rows)
        assert telemetry.describe()["n_samples"] == 0
        assert list(telemetry.samples().columns) == ["at_ns", *NAMES]
        assert telemetry.samples().empty


def test_on_a_cpu_the_gpus_columns_are_null_and_nothing_is_warned_of(caplog):
    with (
        caplog.at_level(logging.INFO),
        open_telemetry(CPU, CollectConfig(telemetry_interval_ms=10), OFFSET_NS) as telemetry,
    ):
        time.sleep(0.25)
        rows = telemetry.annotate(rows_until_now(10, 10.0))
        nothing = telemetry.annotate(rows.iloc[:0])
    assert nothing.empty
    assert caplog.messages == []
    assert rows[list(GPU_COLUMNS)].isna().all(axis=None)
    assert rows["cpu_utilization"].between(0, 1).any()
    assert rows["load_average"].notna().all()
    assert (rows["telemetry_age_ms"] > 0).all()
    samples = telemetry.samples()
    assert samples["at_ns"].is_monotonic_increasing
    assert samples["at_ns"].iloc[-1] >= rows["completed_at_ns"].iloc[-1]
    described = telemetry.describe()
    assert described["sources"] == ["cpu"]
    assert described["n_samples"] == len(samples) > 5
    assert 0 < described["sample_us"]["median"] <= described["sample_us"]["max"]
    assert 0 < described["share_of_time"] < 1


def test_a_gpu_is_asked_and_let_go(fake_gpu):
    fake_gpu.answers["nvmlDeviceGetClockInfo"] = 1400
    told = []

    def breaks():
        with open_telemetry(GPU, CollectConfig(telemetry_interval_ms=10), OFFSET_NS) as telemetry:
            # A step that still runs, so that the sample that `annotate` takes is taken during it.
            row = rows_until_now(1, 10.0)
            row += {"completed_at_ns": 60 * 10**9, "token_latency_ms": 59_990.0, "flags": ""}
            told.append(telemetry.annotate(row))
            told.append(telemetry)
            raise KeyError

    with pytest.raises(KeyError):
        breaks()
    rows, telemetry = told
    assert fake_gpu.open == 0
    assert rows["sm_clock_mhz"].tolist() == [1400]
    assert {"throttled", "slow_clock"} <= set(rows["flags"].iloc[0].split(";"))
    assert telemetry.describe()["sources"] == ["cpu", "nvml"]


def test_no_nvml_is_one_quiet_line(fake_gpu, monkeypatch, caplog):
    def missing():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    with (
        caplog.at_level(logging.INFO),
        open_telemetry(GPU, CollectConfig(telemetry_interval_ms=10), OFFSET_NS) as telemetry,
    ):
        rows = telemetry.annotate(rows_until_now(2, 10.0))
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.is_routine
    assert "NVML is not there" in record.message
    assert rows[list(GPU_COLUMNS)].isna().all(axis=None)
    assert telemetry.describe()["sources"] == ["cpu"]


@pytest.fixture
def stranger():
    """Return a function that starts a process that spins, and is no child of this one."""
    started = []

    def start():
        spin = f"{sys.executable} -c 'while True: pass' >/dev/null 2>&1 & echo $!"
        pid = int(subprocess.run(["sh", "-c", spin], capture_output=True, text=True, check=True).stdout)
        started.append(pid)
        return psutil.Process(pid)

    yield start
    for pid in started:
        os.kill(pid, signal.SIGKILL)


def used_s(process):
    times = process.cpu_times()
    return times.user + times.system


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="counts of /proc")
def test_a_competing_busy_process_is_detected(stranger):
    """Whatever else runs here, and however much that leaves it: its work is among the others'."""
    with open_telemetry(CPU, CollectConfig(telemetry_interval_ms=100), OFFSET_NS) as telemetry:
        process = stranger()
        began_s, before_s = time.perf_counter(), used_s(process)
        while used_s(process) < before_s + 1.0:
            assert time.perf_counter() < began_s + 30, "it never got to spin"
            time.sleep(0.05)
        elapsed_s = time.perf_counter() - began_s
        rows = telemetry.annotate(rows_until_now(50, elapsed_s * 1e3 / 50))
    others = telemetry.samples().query("at_ns > @rows.completed_at_ns.min()")["other_cpu_cores"]
    assert others.mean() > 1.0 / elapsed_s - 0.2
    assert rows["flags"].str.contains("busy_cpu").mean() > 0.5
