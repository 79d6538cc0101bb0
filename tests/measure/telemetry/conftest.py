"""Sources that say what they are told to, and a GPU that exists only in the driver's binding."""

import ctypes
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pynvml
import pytest
import torch

from llmlat.measure.telemetry.join import NAMES, samples_frame

GPU = torch.device("cuda", 0)
UUID = "00000000-1111-2222-3333-444444444444"


class ScriptedSource:
    """A source that tells what was put into it."""

    def __init__(self, name: str = "scripted", **values: float | None) -> None:
        self.name = name
        self.values: dict[str, Any] = values
        self.n_refreshed = 0

    def read(self) -> dict[str, Any]:
        return dict(self.values)

    def refresh(self) -> None:
        self.n_refreshed += 1


@pytest.fixture
def scripted_source() -> type[ScriptedSource]:
    return ScriptedSource


@pytest.fixture
def samples_of() -> Callable[..., pd.DataFrame]:
    """Return a function that makes samples of their times in ms, and lists of their values."""

    def make(at_ms: list[float], **values: list[float | None]) -> pd.DataFrame:
        columns = [values.get(name, [None] * len(at_ms)) for name in NAMES]
        return samples_frame([round(ms * 1e6) for ms in at_ms], list(zip(*columns, strict=True)))

    return make


@pytest.fixture
def steps() -> Callable[..., pd.DataFrame]:
    """Return a function that makes rows of steps that follow each other, in ms."""

    def make(begin_ms: float, latency_ms: list[float], flags: str = "") -> pd.DataFrame:
        latency = pd.Series(latency_ms, dtype="float64")
        end_ns = round(begin_ms * 1e6) + (latency.cumsum() * 1e6).round().astype("int64")
        return pd.DataFrame({"completed_at_ns": end_ns, "token_latency_ms": latency, "flags": flags})

    return make


def _field(outcome: int, value: int = 0) -> Any:
    field = pynvml.c_nvmlFieldValue_t()
    field.nvmlReturn, field.value.uiVal = outcome, value
    return field


class FakeGpu:
    """What the functions of the real binding are told to answer; an exception is raised."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.open = 0
        self.bandwidth_percent = [40.0, 60.0, 80.0]
        self.answers: dict[str, Any] = {
            "nvmlDeviceGetHandleByUUID": "the handle",
            "nvmlSystemGetDriverVersion": "575.1",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=55),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 412_500,
            "nvmlDeviceGetFieldValues": [_field(pynvml.NVML_ERROR_NOT_SUPPORTED)],
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetClockInfo": 1755,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetCurrentClocksEventReasons": 4,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 8,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 * 2**30),
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlGpmQueryDeviceSupport": SimpleNamespace(isSupportedDevice=1),
        }

    def tell_power_mw(self, power_mw: int) -> None:
        self.answers["nvmlDeviceGetFieldValues"] = [_field(pynvml.NVML_SUCCESS, power_mw)]

    def fail(self, name: str, code: int = pynvml.NVML_ERROR_NOT_SUPPORTED) -> None:
        self.answers[name] = pynvml.NVMLError(code)

    def answer(self, name: str) -> Any:
        self.calls.append(name)
        assert self.open, f"{name} was called while NVML was shut"
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """Replace the functions of the real binding: its constants, structures and errors stay."""
    gpu = FakeGpu()

    def function(name: str) -> Callable[..., Any]:
        return lambda *arguments: gpu.answer(name)

    for name in gpu.answers:
        monkeypatch.setattr(pynvml, name, function(name))
    allocated: list[Any] = []
    taken: list[int] = []

    def address(sample: Any) -> int:
        return ctypes.cast(sample, ctypes.c_void_p).value or 0

    def alloc() -> Any:
        buffer = ctypes.create_string_buffer(8)
        allocated.append(buffer)
        return ctypes.cast(buffer, pynvml.c_nvmlGpmSample_t)

    def take(handle: Any, sample: Any) -> None:
        gpu.calls.append("sample")
        taken.append(address(sample))

    def metrics(question: Any) -> Any:
        assert (question.version, question.numMetrics) == (1, 1)
        assert [address(question.sample1), address(question.sample2)] == taken[-2:]
        assert taken[-1] != taken[-2], "the sample before was overwritten"
        assert question.metrics[0].metricId == pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL
        question.metrics[0].nvmlReturn = pynvml.NVML_SUCCESS
        question.metrics[0].value = gpu.bandwidth_percent.pop(0)
        return question

    def init(change: int) -> Callable[[], None]:
        def count() -> None:
            gpu.open += change

        return count

    monkeypatch.setattr(pynvml, "nvmlInit", init(1))
    monkeypatch.setattr(pynvml, "nvmlShutdown", init(-1))
    monkeypatch.setattr(pynvml, "nvmlGpmSampleAlloc", alloc)
    monkeypatch.setattr(pynvml, "nvmlGpmSampleGet", take)
    monkeypatch.setattr(pynvml, "nvmlGpmSampleFree", lambda sample: allocated.pop())
    monkeypatch.setattr(pynvml, "nvmlGpmMetricsGet", metrics)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
    yield gpu
    assert gpu.open == 0, "NVML was left open"
    assert allocated == [], "GPM samples were not freed"
