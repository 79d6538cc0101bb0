"""When a latency has settled: MSER-5 on the steps of warm-up passes.

The rule is the Marginal Standard Error Rule (White 1997, "An effective truncation heuristic for bias
reduction in simulation output", Simulation 69; in batches of five: White, Cobb and Spratt 2000, "A
comparison of five steady-state truncation heuristics for simulation", Winter Simulation Conference). Of a
series of m values it cuts the first d, with the d that makes the standard error of the others' mean
smallest:

    sum over i > d of (z_i - mean of those)^2 / (m - d)^2

A slow start left in inflates the sum, and a good value cut away shrinks the divisor. What is particular
here:

- A value is the **median** of five steps, not their mean: a step ten times too slow, once in a hundred,
  would rule a batch's mean, and is no sign of a slow start.
- A step's latency is divided by the median over passes at the same token_index, of which there must be
  three: what grows with the context (without a key-value cache, say) is no drift.
- A `first_visit` of a shape is left out: on some devices PyTorch's attention plans for every new context
  length, at 33 ms each, whatever the time. So the first pass over a prompt is never judged.

It is settled where what is left behind the cut lasts for the floor and has 20 batches, is not cut further
than to its half by the same rule (White's own sign of a series that is too short), and has two halves whose
medians agree within 2 %. The second cut, and not the share of the whole series, makes a start of 40 s no
reason for 40 s more.

In 40 simulated runs each (spikes of ten times at every hundredth step, floor 2 s, 20 ms a step) a flat
latency is always found settled, typically after 160 steps (5 passes); the end of a start 2.5 times as slow,
that goes suddenly, is found within 3 steps by half of the runs, and within 39 by 19 in 20. Drift of 10 % a
second is never taken for settled at a noise of 0.5 to 2 % a step, by a third of the runs at 10 %; drift of
3 % a second is by 2 % of them at 0.5 %, and by nine in ten at 2 %. A slow start that stays level for longer
than the floor cannot be seen before it ends, by this rule or any.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.records import DECODE

RULE = "MSER-5 on batch medians; the rest uncut to its half, its halves within 2 %"
BATCH_STEPS = 5
MIN_BATCHES = 20
MIN_PASSES = 3
AGREEMENT = 0.02

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settled:
    """Where a series settled.

    Attributes
    ----------
    from_step : int
        The first step, of those that were given, that is not cut away.
    start_ratio : float
        How far the start was off: the first judged batch over the settled level.
    """

    from_step: int
    start_ratio: float


def judge(steps: pd.DataFrame, floor_s: float) -> Settled | None:
    """Return where the latency settled, or None where it has not yet.

    Parameters
    ----------
    steps : DataFrame
        The steps of repeated passes over the same prompts, in order.
    floor_s : float
        For how many seconds it must have been settled.
    """
    judged = _judged(steps)
    latency = judged["token_latency_ms"]
    by_index = latency.groupby(judged["token_index"])
    if len(judged) < MIN_BATCHES * BATCH_STEPS or by_index.size().min() < MIN_PASSES:
        return None
    relative = (latency / by_index.transform("median")).to_numpy(np.float64)
    batches = _batch_medians(relative)
    cut = truncation_point(batches)
    first = judged.iloc[cut * BATCH_STEPS]
    lasted_ns = steps["completed_at_ns"].iloc[-1] - first["completed_at_ns"]
    if lasted_ns < floor_s * 1e9 or not _is_level(batches[cut:]):
        return None
    n_before = int((steps["completed_at_ns"] < first["completed_at_ns"]).sum())
    return Settled(n_before, float(batches[0] / np.median(batches[cut:])))


def truncation_point(series: Floats) -> int:
    """Return how many values MSER cuts from a series' beginning; at least five stay."""
    deviations = series - series.mean()
    n_left = np.arange(len(series), 4, -1)
    totals = np.cumsum(deviations[::-1])[::-1][: len(n_left)]
    squares = np.cumsum(deviations[::-1] ** 2)[::-1][: len(n_left)]
    error = np.maximum(squares - totals**2 / n_left, 0) / n_left**2
    # The first of equals: where nothing varies, what is left to compare is rounding.
    return int(np.argmax(error <= error.min() + 1e-12))


def _judged(steps: pd.DataFrame) -> pd.DataFrame:
    """Leave first visits out, and the prefills where there is anything else."""
    revisits = steps[~steps["first_visit"]]
    decoded = revisits[revisits["phase"] == DECODE]
    return decoded if (steps["phase"] == DECODE).any() else revisits


def _batch_medians(series: Floats) -> Floats:
    n_batches = len(series) // BATCH_STEPS
    medians: Floats = np.median(series[: n_batches * BATCH_STEPS].reshape(n_batches, BATCH_STEPS), axis=1)
    return medians


def _is_level(batches: Floats) -> bool:
    """Tell whether what is left is long enough, and shows no slow start or drift of its own."""
    if len(batches) < MIN_BATCHES or truncation_point(batches) > len(batches) / 2:
        return False
    half = len(batches) // 2
    earlier, later = np.median(batches[:half]), np.median(batches[half:])
    return bool(abs(earlier - later) <= AGREEMENT * later)
