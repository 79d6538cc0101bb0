"""Flags: under which doubtful conditions a step ran. Pure functions of frames.

Flags judge a row and are no features, so they may look at samples taken during the step and after it. A
sample speaks for the time since the sample before it, and the first for its own instant. A row is flagged
where the time of any sample that shows the condition overlaps its step.

`throttled`
    NVML gives a reason for holding the clock back that is a slow-down: the software power cap, hardware
    slow-down, software or hardware thermal slow-down, hardware power brake. Reasons that are a choice or no
    work are left out: idle, application clocks, sync boost, display clocks.
`slow_clock`
    The multiprocessors' clock is below `collect.min_clock` of the device's highest. An idle GPU's clock sinks
    by itself between requests, so a reading counts only if it was taken while a step ran, or at once after
    one (100 ms). Not on a CPU: what its cores report as their clock is not reliable enough to judge a row.
`foreign_process`
    Other processes have work on the GPU.
`busy_cpu`
    Other processes kept more than half a core busy.
"""

import numpy as np
import pandas as pd
import pynvml

from llmlat.measure.frames import Nanoseconds, Verdict, with_flags
from llmlat.measure.machine.neighbours import BUSY_CORES

SLOWDOWN_REASONS = (
    pynvml.nvmlClocksEventReasonSwPowerCap
    | pynvml.nvmlClocksEventReasonHwSlowdown
    | pynvml.nvmlClocksEventReasonSwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
)
# A GPU keeps its clock for longer than this when its work ends, and a request's rows are made before that.
STILL_AT_WORK_NS = 100_000_000


def flags_of(
    flags: pd.Series,
    start_ns: Nanoseconds,
    end_ns: Nanoseconds,
    samples: pd.DataFrame,
    slow_below_mhz: float,
) -> pd.Series:
    """Return the rows' flags, those that they had already among them.

    Parameters
    ----------
    flags : Series of str
        The rows' flags so far.
    start_ns, end_ns : ndarray of int64
        When each row's step began and ended.
    samples : DataFrame
        From the last sample before the first step on.
    slow_below_mhz : float
        A clock below this is slow; 0 where none is.
    """
    at_ns = samples["at_ns"].to_numpy()
    shown = {
        "throttled": (samples["throttle_reasons"].fillna(0).to_numpy(np.int64) & SLOWDOWN_REASONS) != 0,
        "slow_clock": (samples["sm_clock_mhz"].to_numpy() < slow_below_mhz)
        & _is_at_work(at_ns, start_ns, end_ns),
        "foreign_process": samples["foreign_processes"].fillna(0).to_numpy(np.int64) > 0,
        "busy_cpu": samples["other_cpu_cores"].to_numpy() > BUSY_CORES,
    }
    found = {name: _any_overlapping(shown[name], at_ns, start_ns, end_ns) for name in shown}
    return with_flags(flags, found)


def _any_overlapping(
    shown: Verdict, at_ns: Nanoseconds, start_ns: Nanoseconds, end_ns: Nanoseconds
) -> Verdict:
    """Tell for each step whether any sample whose time overlaps it shows a condition."""
    # The first sample has none before it: it speaks for its own instant.
    since_ns = np.concatenate([at_ns[:1], at_ns[:-1]])
    first = np.searchsorted(at_ns, start_ns, side="right")
    behind = np.searchsorted(since_ns, end_ns, side="left")
    count = np.concatenate([[0], np.cumsum(shown)])
    return np.asarray(count[np.maximum(behind, first)] > count[first])


def _is_at_work(at_ns: Nanoseconds, start_ns: Nanoseconds, end_ns: Nanoseconds) -> Verdict:
    """Tell for each sample whether it was taken while a step ran, or at once after one."""
    order = np.argsort(start_ns, kind="stable")
    last = np.searchsorted(start_ns[order], at_ns, side="left") - 1
    return np.asarray((last >= 0) & (at_ns <= end_ns[order][last] + STILL_AT_WORK_NS))
