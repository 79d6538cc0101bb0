"""The thread that samples: when, at what cost, and what happens where a source or the block fails."""

import gc
import logging
import threading
import time

import pytest

from llmlat.measure.engines.fake import ScriptedTimer
from llmlat.measure.telemetry.sampler import StateSampler


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "llmlat-telemetry"]


class BrokenSource:
    """A source that fails from its second reading on."""

    name = "broken"

    def __init__(self):
        self.n_read = 0

    def read(self):
        self.n_read += 1
        if self.n_read > 1:
            raise OSError("the\nsensor is gone")
        return {"gpu_power_w": 1.0}

    def refresh(self):
        pass


def wait_for(sampler, n_samples):
    deadline = time.monotonic() + 10
    while len(sampler.frame()) < n_samples:
        assert time.monotonic() < deadline, "no samples come"
        time.sleep(0.005)


def test_a_sample_is_as_old_as_its_completion(scripted_source):
    timer = ScriptedTimer()

    class SlowSource(scripted_source):
        def read(self):
            timer.advance(2)
            return super().read()

    sampler = StateSampler([SlowSource(gpu_power_w=1)] * 2, 100, 1_000, clock_ns=lambda: timer.now_ns)
    timer.advance(10)
    sampler.take()
    assert sampler.frame()["at_ns"].tolist() == [14_001_000]
    timer.advance(82)
    sampler.take()
    assert sampler.describe() == {
        "sources": ["scripted", "scripted"],
        "interval_ms": 100,
        "n_samples": 2,
        "sample_us": {"median": 4000, "max": 4000},
        "share_of_time": 0.08,
    }


def test_it_samples_in_the_background_on_the_clock_of_the_rows(scripted_source):
    source = scripted_source(gpu_power_w=300)
    offset_ns = time.time_ns() - time.perf_counter_ns()
    began_ns = time.perf_counter_ns() + offset_ns
    with StateSampler([source], 5, offset_ns) as sampler:
        assert len(sampler.frame()) >= 1, "the first rows would have no sample"
        wait_for(sampler, 6)
        (thread,) = threads()
        assert thread.daemon
    ended_ns = time.perf_counter_ns() + offset_ns
    at_ns = sampler.frame()["at_ns"]
    assert began_ns < at_ns.iloc[0] < at_ns.iloc[-1] < ended_ns
    # Never closer than the interval: it sleeps, and catches up on nothing.
    assert at_ns.diff().min() >= 5e6
    assert set(sampler.frame()["gpu_power_w"]) == {300}


def test_the_thread_ends_with_the_block_also_where_that_raises(scripted_source):
    sampler = StateSampler([scripted_source()], 60_000)

    def breaks():
        with sampler:
            assert len(threads()) == 1
            raise KeyError

    with pytest.raises(KeyError):
        breaks()
    assert threads() == []
    assert len(sampler.frame()) == 1, "what was sampled stays"
    spent = sampler.describe()["share_of_time"]
    time.sleep(0.01)
    assert sampler.describe()["share_of_time"] == spent


def test_a_source_that_fails_is_left_out_with_one_line(scripted_source, caplog):
    broken = BrokenSource()
    with StateSampler([broken, scripted_source(cpu_utilization=0.5)], 5) as sampler:
        wait_for(sampler, 5)
    samples = sampler.frame()
    assert samples["gpu_power_w"].tolist()[0] == 1
    assert samples["gpu_power_w"].iloc[1:].isna().all()
    assert (samples["cpu_utilization"] == 0.5).all()
    assert caplog.messages == ["Telemetry goes on without broken: the sensor is gone."]
    assert broken.n_read == 2


def test_a_source_that_fails_between_requests_takes_nothing_down(scripted_source, caplog):
    source = scripted_source(gpu_power_w=1)
    source.refresh = lambda: 1 / 0
    with StateSampler([source], 60_000) as sampler:
        sampler.take()
    assert sampler.frame()["gpu_power_w"].isna().all()
    assert len(caplog.messages) == 1


def test_a_query_that_hangs_does_not_keep_the_run(scripted_source, caplog, monkeypatch):
    monkeypatch.setattr("llmlat.measure.telemetry.sampler.STOP_TIMEOUT_S", 0.01)
    gate, source = threading.Event(), scripted_source()
    with StateSampler([source], 1) as sampler:
        source.read = lambda: gate.wait(10) and {}
        time.sleep(0.01)
    (hanging,) = threads()
    assert "left behind" in caplog.text
    gate.set()
    hanging.join()
    assert sampler.interval_ms == 1


def test_the_frame_begins_with_the_last_sample_before_a_time(scripted_source):
    timer = ScriptedTimer()
    sampler = StateSampler([scripted_source()], 100, clock_ns=lambda: timer.now_ns)
    for _ in range(5):
        timer.advance(10)
        sampler.take()

    def since(ms):
        return [at_ns / 1e6 for at_ns in sampler.frame(since_ns=round(ms * 1e6))["at_ns"]]

    assert since(0) == since(10) == since(20) == [10, 20, 30, 40, 50]
    assert since(30) == [20, 30, 40, 50]
    assert since(30.5) == [30, 40, 50]
    assert since(99) == [50]


def test_sampling_leaves_no_garbage_behind(scripted_source):
    """The collection is paused while requests run: cycles would pile up."""
    sampler = StateSampler([scripted_source(gpu_power_w=1.0)], 100)
    sampler.take()
    gc.collect()
    for _ in range(50):
        sampler.take()
    assert gc.collect() == 0


def test_it_says_nothing_where_all_is_well(scripted_source, caplog):
    with caplog.at_level(logging.DEBUG), StateSampler([scripted_source()], 5) as sampler:
        wait_for(sampler, 3)
    assert caplog.messages == []
