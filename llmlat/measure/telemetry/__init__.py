"""Telemetry: the state of the machine beside the rows, on the rows' own clock.

A thread samples the processor and the GPU every `collect.telemetry_interval_ms`. Between requests, each row
is given the last sample strictly before its step began, so that a predictor never sees the future; and the
flags, which are no features, say under which doubtful conditions the step ran.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import pandas as pd
import torch

from llmlat.config import CollectConfig
from llmlat.errors import ConfigError
from llmlat.measure.frames import step_spans
from llmlat.measure.machine.nvml import open_device
from llmlat.measure.telemetry.cpu import CpuSource
from llmlat.measure.telemetry.flags import flags_of
from llmlat.measure.telemetry.join import empty_samples, join_samples
from llmlat.measure.telemetry.nvml import GpuSource
from llmlat.measure.telemetry.sampler import Source, StateSampler

LONGEST_INTERVAL_MS = 60_000


class Telemetry(Protocol):
    """What a session sees of the machine's state."""

    def annotate(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows with their telemetry, its age and their flags; called between requests."""

    def describe(self) -> dict[str, Any]:
        """Return what was sampled, how often and at what cost, for provenance."""

    def samples(self) -> pd.DataFrame:
        """Return all samples so far; `at_ns` is on the clock of the rows' `completed_at_ns`."""


class NoTelemetry:
    """Stands in where no samples are wanted: the columns stay empty."""

    def annotate(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows as they are."""
        return rows

    def describe(self) -> dict[str, Any]:
        """Say that there are no samples."""
        return {
            "sources": [],
            "interval_ms": 0.0,
            "n_samples": 0,
            "sample_us": None,
            "share_of_time": 0.0,
        }

    def samples(self) -> pd.DataFrame:
        """Return no samples."""
        return empty_samples()


class SampledTelemetry:
    """Rows meet the samples of a running sampler.

    Parameters
    ----------
    sampler : StateSampler
    min_clock : float
        Rows below this share of the highest clock are flagged.
    max_sm_clock_mhz : float or None
        The device's highest clock; None where it is not known, and no clock is slow.
    """

    def __init__(self, sampler: StateSampler, min_clock: float, max_sm_clock_mhz: float | None) -> None:
        self._sampler = sampler
        self._slow_below_mhz = min_clock * max_sm_clock_mhz if max_sm_clock_mhz else 0.0

    def annotate(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows with their telemetry, its age and their flags.

        Called between requests: one more sample is taken here, since the last steps' flags need one that was
        taken after them, and so is what would be too slow to read beside a step.
        """
        if rows.empty:
            return rows
        start_ns, end_ns = step_spans(rows)
        self._sampler.take()
        self._sampler.refresh()
        samples = self._sampler.frame(since_ns=int(start_ns.min()))
        flags = flags_of(rows["flags"], start_ns, end_ns, samples, self._slow_below_mhz)
        return join_samples(rows, samples).assign(flags=flags)

    def describe(self) -> dict[str, Any]:
        """Return what was sampled, how often and at what cost, for provenance."""
        return self._sampler.describe()

    def samples(self) -> pd.DataFrame:
        """Return all samples so far."""
        return self._sampler.frame()


def check_telemetry(collect: CollectConfig) -> None:
    """Refuse settings of the telemetry that cannot work.

    Raises
    ------
    ConfigError
    """
    interval = collect.telemetry_interval_ms
    if interval != 0 and not 1 <= interval <= LONGEST_INTERVAL_MS:
        raise ConfigError(
            f"collect.telemetry_interval_ms={interval:g}: use 1 to {LONGEST_INTERVAL_MS} milliseconds, "
            "or 0 for no telemetry."
        )
    if not 0 <= collect.min_clock <= 1:
        raise ConfigError(f"collect.min_clock={collect.min_clock:g}: use a share from 0 (flag none) to 1.")


@contextmanager
def open_telemetry(device: torch.device, collect: CollectConfig, epoch_offset_ns: int) -> Iterator[Telemetry]:
    """Sample the machine's state in the background within the block.

    Parameters
    ----------
    device : torch.device
        The one that is measured on.
    collect : CollectConfig
        Its `telemetry_interval_ms`, where 0 samples nothing, and `min_clock`.
    epoch_offset_ns : int
        The collector's, from the monotonic clock to the rows'.

    Yields
    ------
    Telemetry
        It may be asked after the block, too; sampling ends with the block, however it ends.

    Raises
    ------
    ConfigError
        Where the interval cannot be.
    """
    check_telemetry(collect)
    if collect.telemetry_interval_ms == 0:
        yield NoTelemetry()
        return
    with ExitStack() as stack:
        sources: list[Source] = [CpuSource()]
        gpu = GpuSource.of(stack.enter_context(open_device(device)))
        if gpu is not None:
            sources.append(gpu)
            stack.callback(gpu.close)
        sampler = stack.enter_context(StateSampler(sources, collect.telemetry_interval_ms, epoch_offset_ns))
        yield SampledTelemetry(sampler, collect.min_clock, gpu.max_sm_clock_mhz if gpu else None)
