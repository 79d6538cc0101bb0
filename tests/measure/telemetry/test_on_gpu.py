"""NVML through its real binding, where a GPU is present."""

import time

import pytest
import torch

from llmlat.config import CollectConfig
from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines.fake import FakeEngine, ScriptedTimer
from llmlat.measure.machine import environment, neighbours
from llmlat.measure.machine.nvml import open_device
from llmlat.measure.telemetry import open_telemetry
from llmlat.measure.telemetry.flags import STILL_AT_WORK_NS
from llmlat.measure.telemetry.nvml import GpuSource
from llmlat.measure.timers import CudaTimer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture
def gpu():
    return torch.device("cuda", 0)


@pytest.fixture
def work(gpu):
    """Return a function that keeps the GPU reading its memory for so many seconds."""
    numbers = torch.ones(2**28, device=gpu)

    def run(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(20):
                numbers.mul_(1.0)
            torch.cuda.synchronize(gpu)

    return run


@pytest.fixture
def source(gpu):
    with open_device(gpu) as handle:
        assert handle is not None
        source = GpuSource.of(handle)
        yield source
        source.close()


def test_a_working_gpu_shows_it(source, work):
    source.read()
    work(1.0)
    values = source.read()
    print(values, source.max_sm_clock_mhz)
    assert 0.5 < values["gpu_utilization"] <= 1
    assert 0 < values["gpu_memory_utilization"] <= 1
    assert 10 < values["gpu_temperature_c"] < 110
    assert 20 < values["gpu_power_w"] < 2000
    assert 0 < values["sm_clock_mhz"] <= source.max_sm_clock_mhz
    assert values["memory_clock_mhz"] > 0
    assert values["throttle_reasons"] >= 0
    assert 2**30 < values["gpu_memory_used_bytes"] < 2**40
    assert values.get("foreign_processes", 0) in {0, None}


def test_bandwidth_where_the_hardware_offers_it(source, work):
    source.read()
    if "memory bandwidth" not in source._queries:
        pytest.skip("no GPM")
    work(0.5)
    busy = source.read()["dram_bandwidth_utilization"]
    # The counters lag behind by up to a few hundred milliseconds: the first reading may still see the work.
    time.sleep(0.5)
    source.read()
    time.sleep(0.5)
    idle = source.read()["dram_bandwidth_utilization"]
    print(f"bandwidth: busy {busy}, idle {idle}")
    assert 0.3 < busy <= 1
    assert idle < 0.1


def test_each_query_is_quick(source, work):
    work(0.1)
    source.read()
    cost_us = {}
    for name, query in source._queries.items():
        began = time.perf_counter_ns()
        for _ in range(100):
            query(source._handle)
        cost_us[name] = (time.perf_counter_ns() - began) / 1e5
    print({name: round(cost, 1) for name, cost in cost_us.items()})
    assert max(cost_us.values()) < 5000
    assert "power" in cost_us


def test_the_clock_holds_for_a_while_when_work_ends(source, work):
    """A reading that comes at once after a step tells of the step: what `slow_clock` relies on."""
    work(1.0)
    during = source.read()["sm_clock_mhz"]
    time.sleep(STILL_AT_WORK_NS / 1e9)
    after = source.read()["sm_clock_mhz"]
    print(f"SM clock: {during} at once, {after} MHz 100 ms later, highest {source.max_sm_clock_mhz}")
    assert after >= 0.9 * during


def test_rows_carry_the_gpus_state(gpu, work, request_of):
    class WorkingEngine(FakeEngine):
        def decode_one_token(self, state):
            work(0.02)
            return super().decode_one_token(state)

    collector = Collector(CudaTimer(gpu))
    engine = WorkingEngine(ScriptedTimer(), lambda *_: 0.0)
    with open_telemetry(gpu, CollectConfig(telemetry_interval_ms=50), collector.epoch_offset_ns) as telemetry:
        rows = telemetry.annotate(collector.measure(request_of(0, 10, 30), engine, Greedy()))
    described = telemetry.describe()
    print(described)
    print(
        rows[["gpu_utilization", "dram_bandwidth_utilization", "sm_clock_mhz", "telemetry_age_ms", "flags"]]
    )
    assert described["sources"] == ["cpu", "nvml"]
    assert rows["sm_clock_mhz"].notna().all()
    assert rows["telemetry_age_ms"].between(0, 500, inclusive="neither").all()
    assert described["share_of_time"] < 0.2


def test_the_rest_of_the_measuring_half_asks_the_same_gpu(gpu):
    state = environment.nvidia_state(gpu)
    assert state["driver"]
    assert state["max_sm_clock_mhz"] > 0
    assert set(neighbours.notice_foreign_processes(gpu)) == {"count", "names"}
    cost_ns = environment.mark_cost_ns(CudaTimer(gpu))
    print(f"a mark costs {cost_ns} ns")
    assert 0 < cost_ns < 1e6
