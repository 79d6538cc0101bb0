"""The real clocks, on real work."""

import time

import numpy as np
import pytest
import torch

from llmlat.measure.collect import Collector
from llmlat.measure.engines.fake import FakeEngine, ScriptedTimer
from llmlat.measure.timers import CudaTimer, WallTimer, make_timer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class SleepyEngine(FakeEngine):
    """Takes real milliseconds."""

    def decode_one_token(self, state):
        time.sleep(self.latency_ms(state.prompt_tokens, state.generated) / 1e3)
        return super().decode_one_token(state)


def test_the_wall_clock_sees_what_a_step_took(request_of):
    engine = SleepyEngine(ScriptedTimer(), lambda _, index: 300.0 if index == 2 else 3.0)
    before = time.perf_counter_ns()
    rows = Collector(WallTimer()).measure(request_of(max_new_tokens=5), engine, engine.decoder)
    wall_ms = (time.perf_counter_ns() - before) / 1e6
    # Far apart, as a busy machine makes any step longer.
    assert rows["token_latency_ms"].idxmax() == 2
    assert rows["token_latency_ms"].iloc[2] >= 300
    assert (rows["token_latency_ms"] >= 3).all()
    assert rows["token_latency_ms"].sum() <= wall_ms
    assert rows["device_latency_ms"].isna().all()


def test_the_wall_clock_forgets_earlier_marks():
    timer = WallTimer()
    for _ in range(3):
        timer.mark()
    timer.reset(1)
    assert timer.read().marks_ns.size == 0
    assert timer.read().latency_ms.size == timer.read().device_ms.size == 0
    timer.mark()
    a = torch.ones(200, 200)
    a @ a
    timer.mark()
    times = timer.read()
    assert times.marks_ns.dtype == np.int64
    assert times.latency_ms.shape == times.device_ms.shape == (1,)
    assert times.latency_ms[0] > 0


def test_the_cpu_is_timed_by_the_wall_clock():
    assert isinstance(make_timer(torch.device("cpu")), WallTimer)


@needs_cuda
def test_cuda_events_and_the_synchronised_clock_agree():
    device = torch.device("cuda:0")
    timer = make_timer(device)
    assert isinstance(timer, CudaTimer)
    a = torch.randn(4096, 4096, device=device)
    for _ in range(3):  # the same events serve every request
        timer.reset(8)
        timer.mark()
        for _ in range(8):
            for _ in range(10):
                a @ a
            timer.mark()
        times = timer.read()
    assert times.latency_ms.shape == times.device_ms.shape == (8,)
    assert (times.device_ms > 0).all()
    # The host may notice one step's end late, which makes its interval longer and the next one's shorter.
    assert np.abs(times.latency_ms - times.device_ms).max() < 1.0
    assert times.latency_ms.sum() >= times.device_ms.sum() - 0.05


@needs_cuda
def test_a_cuda_mark_waits_for_the_work():
    device = torch.device("cuda:0")
    timer = make_timer(device)
    a = torch.randn(8192, 8192, device=device)
    a @ a
    timer.reset(1)
    timer.mark()
    for _ in range(20):
        a @ a
    submitted_ns = time.perf_counter_ns()
    timer.mark()
    assert timer.read().marks_ns[-1] > submitted_ns
    assert timer.read().latency_ms[0] > 5


@needs_cuda
def test_a_request_that_stopped_early_has_only_its_own_events():
    device = torch.device("cuda:0")
    timer = make_timer(device)
    timer.reset(10)
    for _ in range(11):
        timer.mark()
    timer.reset(10)
    for _ in range(4):
        timer.mark()
    assert timer.read().device_ms.shape == (3,)
