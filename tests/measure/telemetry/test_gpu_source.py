"""The GPU's state through the binding, with a driver's answers made up; test_on_gpu.py has real ones."""

import logging
import os

import pynvml
import pytest
import torch

from llmlat.measure.machine import environment, neighbours
from llmlat.measure.machine.nvml import open_device
from llmlat.measure.telemetry.nvml import GpuSource

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def source(fake_gpu):
    """Return the source of the fake GPU; changed answers are seen by its next reading."""
    with open_device(GPU) as handle:
        source = GpuSource.of(handle)
        yield source
        source.close()


def test_all_columns_in_their_units(source):
    assert source.read() == {
        "gpu_utilization": 0.97,
        "gpu_memory_utilization": 0.55,
        "gpu_temperature_c": 61,
        "gpu_power_w": 412.5,
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 1755,
        "throttle_reasons": 4,
        "gpu_memory_used_bytes": 3 * 2**30,
        "foreign_processes": 0,
        "dram_bandwidth_utilization": None,
    }
    assert source.max_sm_clock_mhz == 1980


def test_bandwidth_is_what_was_used_since_the_sample_before(source, fake_gpu):
    found = [source.read()["dram_bandwidth_utilization"] for _ in range(3)]
    assert found == [None, 0.4, 0.6]
    assert fake_gpu.calls.count("sample") == 3


def test_a_bandwidth_that_is_none_is_null(source, fake_gpu):
    fake_gpu.bandwidth_percent[:] = [float("nan"), 0.0]
    assert [source.read()["dram_bandwidth_utilization"] for _ in range(3)] == [None, None, 0.0]


@pytest.mark.parametrize("how", ["says no", "raises"])
def test_hardware_without_gpm_has_no_bandwidth(fake_gpu, how):
    if how == "raises":
        fake_gpu.fail("nvmlGpmQueryDeviceSupport", pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    else:
        fake_gpu.answers["nvmlGpmQueryDeviceSupport"].isSupportedDevice = 0
    with open_device(GPU) as handle:
        source = GpuSource.of(handle)
        values = [source.read() for _ in range(2)]
        source.close()
    assert all("dram_bandwidth_utilization" not in reading for reading in values)
    assert "sample" not in fake_gpu.calls


@pytest.mark.parametrize(
    ("query", "column"),
    [
        ("nvmlDeviceGetUtilizationRates", "gpu_memory_utilization"),
        ("nvmlDeviceGetTemperature", "gpu_temperature_c"),
        ("nvmlDeviceGetPowerUsage", "gpu_power_w"),
        ("nvmlDeviceGetClockInfo", "sm_clock_mhz"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "throttle_reasons"),
        ("nvmlDeviceGetMemoryInfo", "gpu_memory_used_bytes"),
        ("nvmlDeviceGetComputeRunningProcesses", "foreign_processes"),
    ],
)
def test_what_is_not_supported_is_asked_for_once_and_the_rest_goes_on(
    query, column, source, fake_gpu, caplog
):
    complete = len(source.read())
    fake_gpu.fail(query)
    fake_gpu.calls.clear()
    with caplog.at_level(logging.INFO):
        values = [source.read() for _ in range(3)]
    assert column not in values[-1]
    assert complete - 2 <= len(values[-1]) < complete
    n_lost = 2 if query == "nvmlDeviceGetClockInfo" else 1
    assert fake_gpu.calls.count(query) == n_lost
    assert len(caplog.records) == n_lost
    assert all(record.is_routine and "Not Supported" in record.message for record in caplog.records)


def test_a_query_that_breaks_is_warned_of(source, fake_gpu, caplog):
    fake_gpu.fail("nvmlDeviceGetPowerUsage", pynvml.NVML_ERROR_GPU_IS_LOST)
    source.read()
    assert caplog.messages == ["Telemetry goes on without the GPU's power: GPU is lost."]


def test_power_is_that_of_now_where_the_device_tells_it(source, fake_gpu):
    fake_gpu.tell_power_mw(126_250)
    assert source.read()["gpu_power_w"] == 126.25
    assert "nvmlDeviceGetPowerUsage" not in fake_gpu.calls, "the average of a second"


def test_older_drivers_have_another_name_for_the_reasons(source, fake_gpu):
    fake_gpu.fail("nvmlDeviceGetCurrentClocksEventReasons", pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    assert [source.read()["throttle_reasons"] for _ in range(2)] == [8, 8]


def test_a_device_that_does_not_tell_its_highest_clock(fake_gpu):
    fake_gpu.fail("nvmlDeviceGetMaxClockInfo")
    with open_device(GPU) as handle:
        source = GpuSource.of(handle)
        assert source.max_sm_clock_mhz is None
        source.close()


def processes(*pids):
    return [type("Process", (), {"pid": pid}) for pid in pids]


@pytest.mark.parametrize(
    ("pids", "holds_context", "foreign"),
    [
        ([], False, 0),
        ([], True, None),  # this one is at work and not among them: NVML tells of nobody here
        ([os.getpid()], True, 0),
        ([os.getpid(), 1], True, 1),
        ([2**22 + 1], True, 0),  # this one, under its number outside the container
        ([2**22 + 1], False, 1),
    ],
)
def test_who_else_computes(pids, holds_context, foreign, source, fake_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: holds_context)
    fake_gpu.answers["nvmlDeviceGetComputeRunningProcesses"] = processes(*pids)
    assert source.read()["foreign_processes"] == foreign


def test_the_total_energy_is_not_asked_for(source, monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: 1 / 0)
    source.read()


def test_no_handle_no_source():
    assert GpuSource.of(None) is None


def test_a_cpu_has_no_handle_and_nvml_stays_shut(fake_gpu):
    with open_device(CPU) as handle:
        assert handle is None
        assert fake_gpu.open == 0


def test_a_device_that_nvml_does_not_know(fake_gpu, caplog):
    fake_gpu.fail("nvmlDeviceGetHandleByUUID", pynvml.NVML_ERROR_NOT_FOUND)
    with caplog.at_level(logging.INFO), open_device(GPU) as handle:
        assert handle is None
    assert len(caplog.messages) == 1
    assert environment.nvidia_state(GPU) == {}


def test_nvml_is_shut_where_the_block_raises(fake_gpu):
    def breaks():
        with open_device(GPU):
            assert fake_gpu.open == 1
            raise KeyError

    with pytest.raises(KeyError):
        breaks()
    assert fake_gpu.open == 0


def test_provenance_keeps_what_the_gpu_tells(fake_gpu):
    fake_gpu.fail("nvmlDeviceGetEnforcedPowerLimit")
    assert environment.nvidia_state(GPU) == {
        "driver": "575.1",
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 1755,
        "max_sm_clock_mhz": 1980,
        "temperature_c": 61,
    }
    assert environment.nvidia_state(CPU) == {}


def test_neighbours_on_a_gpu_are_noticed(fake_gpu, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    fake_gpu.answers["nvmlDeviceGetComputeRunningProcesses"] = processes(os.getpid(), 2**22 + 1)
    assert neighbours.notice_foreign_processes(GPU) == {"count": 1, "names": []}
    assert "1 other process is at work on cuda:0" in caplog.text
    fake_gpu.fail("nvmlDeviceGetComputeRunningProcesses")
    assert neighbours.notice_foreign_processes(GPU) == {"count": 0, "names": []}
