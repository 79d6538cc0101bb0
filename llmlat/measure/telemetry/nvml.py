"""The GPU's state, as NVML tells it.

A query takes microseconds, except the total energy, which takes milliseconds and is therefore not asked for.
The bandwidth of the device memory comes from GPM (Hopper and later): counters that are read at two samples,
and the share of the highest bandwidth that was used between them.
"""

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import pynvml
import torch

from llmlat.measure.machine.neighbours import without_this_one

log = logging.getLogger(__name__)

Values = dict[str, float | int | None]
Query = Callable[[Any], Values]

# The device, its driver or the user's rights do not allow the query; nothing is broken.
_UNSUPPORTED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
)


class GpuSource:
    """Tells a GPU's load, clocks, power, temperature, memory, and who else is on it.

    A query that the device does not support is left out; the others go on.

    Parameters
    ----------
    handle : object
        NVML's, from `llmlat.measure.machine.nvml.open_device`, open as long as this is used.

    Attributes
    ----------
    max_sm_clock_mhz : float or None
        The highest clock that the device can have, where it tells.
    """

    name = "nvml"

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._queries: dict[str, Query] = {
            "utilisation": _utilization,
            "temperature": _temperature,
            "power": _power,
            "SM clock": _sm_clock,
            "memory clock": _memory_clock,
            "throttle reasons": _throttle_reasons,
            "memory": _memory,
            "processes": _processes,
        }
        self._bandwidth = Bandwidth.of(handle)
        if self._bandwidth:
            self._queries["memory bandwidth"] = self._bandwidth.read
        self.max_sm_clock_mhz = _max_sm_clock_mhz(handle)

    @classmethod
    def of(cls, handle: Any | None) -> Self | None:
        """Return the source of a device, or None for no handle."""
        return None if handle is None else cls(handle)

    def read(self) -> Values:
        """Return what the device tells of itself now."""
        values: Values = {}
        for name, query in list(self._queries.items()):
            try:
                values.update(query(self._handle))
            except pynvml.NVMLError as error:
                del self._queries[name]
                is_unsupported = error.value in _UNSUPPORTED
                log.log(
                    logging.INFO if is_unsupported else logging.WARNING,
                    f"Telemetry goes on without the GPU's {name}: {error}.",
                    extra={"is_routine": is_unsupported},
                )
        return values

    def refresh(self) -> None:
        """Do nothing: every query is quick."""

    def close(self) -> None:
        """Give back what was allocated."""
        if self._bandwidth:
            self._bandwidth.close()


def _utilization(handle: Any) -> Values:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return {"gpu_utilization": rates.gpu / 100, "gpu_memory_utilization": rates.memory / 100}


def _temperature(handle: Any) -> Values:
    return {"gpu_temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)}


def _power(handle: Any) -> Values:
    [now] = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
    if now.nvmlReturn == pynvml.NVML_SUCCESS:
        return {"gpu_power_w": now.value.uiVal / 1e3}
    # The older query: at once where it is the only one, but from Ampere on the average of a second.
    return {"gpu_power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3}


def _sm_clock(handle: Any) -> Values:
    return {"sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)}


def _memory_clock(handle: Any) -> Values:
    return {"memory_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)}


def _throttle_reasons(handle: Any) -> Values:
    try:
        return {"throttle_reasons": pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)}
    except pynvml.NVMLError_FunctionNotFound:
        # Drivers before 535 know it under its older name.
        return {"throttle_reasons": pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)}


def _memory(handle: Any) -> Values:
    return {"gpu_memory_used_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).used}


def _processes(handle: Any) -> Values:
    pids = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    holds_context = torch.cuda.is_initialized()
    # In some containers NVML tells of no process, not even of this one: then nothing is known.
    if holds_context and not pids:
        return {"foreign_processes": None}
    return {"foreign_processes": len(without_this_one(pids, holds_context=holds_context))}


def _max_sm_clock_mhz(handle: Any) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM))
    except pynvml.NVMLError:
        return None


class Bandwidth:
    """The share of the device memory's bandwidth that was used since the sample before.

    Everything is allocated once: two samples that take turns, and the structure that asks for their metric.
    """

    def __init__(self) -> None:
        self._before = pynvml.nvmlGpmSampleAlloc()
        self._now = pynvml.nvmlGpmSampleAlloc()
        self._has_before = False
        self._question = pynvml.c_nvmlGpmMetricsGet_t()
        self._question.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        self._question.numMetrics = 1
        self._metric = self._question.metrics[0]
        self._metric.metricId = pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL

    @classmethod
    def of(cls, handle: Any) -> Self | None:
        """Return it for a device that offers GPM, else None."""
        try:
            is_supported = pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice
            return cls() if is_supported else None
        except pynvml.NVMLError:
            return None

    def read(self, handle: Any) -> Values:
        """Return the share since the last call; None at the first."""
        pynvml.nvmlGpmSampleGet(handle, self._now)
        percent = self._percent() if self._has_before else None
        self._before, self._now, self._has_before = self._now, self._before, True
        return {"dram_bandwidth_utilization": None if percent is None else percent / 100}

    def _percent(self) -> float | None:
        self._question.sample1, self._question.sample2 = self._before, self._now
        pynvml.nvmlGpmMetricsGet(self._question)
        is_known = self._metric.nvmlReturn == pynvml.NVML_SUCCESS and math.isfinite(self._metric.value)
        return float(self._metric.value) if is_known else None

    def close(self) -> None:
        """Free the samples."""
        for sample in (self._before, self._now):
            with suppress(pynvml.NVMLError):
                pynvml.nvmlGpmSampleFree(sample)
