"""The noise floor: the error that no predictor on given features can beat, and errors as its multiples."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom, norm

from llmlat.records import DECODE, PREFILL, TARGET

Floor = dict[str, Any]


def noise_floor(rows: pd.DataFrame, features: list[str]) -> tuple[Floor | None, str | None]:
    """Return the error that no predictor on these features can beat, from rows whose features are equal.

    Within a cell of R rows with equal features no prediction has a smaller squared error than the cell's
    mean, and none a smaller absolute one than its median. Deviations from a mean or a median of the R rows
    themselves are short: from the mean by sqrt((R - 1) / R), from the median by what normal noise makes of
    it. Both are made good.

    Parameters
    ----------
    rows : DataFrame
        Counted rows, one a step.
    features : list of str
        The columns that a predictor sees.

    Returns
    -------
    floor : dict or None
        `mae_ms`, `rmse_ms`, `n_cells`, `n_rows`, and `by_phase`: the same of prefill and of decode rows, or
        None.
    reason : str or None
        Why there is none.
    """
    floor = _floor(rows, features)
    if floor is None:
        return None, "hardly any rows have the same features; measure with collect.repetitions=3 or more"
    phases = {phase: _floor(rows[rows["phase"] == phase], features) for phase in (PREFILL, DECODE)}
    return {**floor, "by_phase": phases}, None


def _floor(rows: pd.DataFrame, features: list[str]) -> Floor | None:
    cells = rows.groupby(features, sort=False, dropna=False)[TARGET]
    size = cells.transform("size").to_numpy()
    repeated = size > 1
    n_cells = int((cells.size() > 1).sum())
    if n_cells < 2:
        return None
    latency, size = rows[TARGET].to_numpy()[repeated], size[repeated]
    from_mean = latency - cells.transform("mean").to_numpy()[repeated]
    from_median = latency - cells.transform("median").to_numpy()[repeated]
    seen = np.array([_seen_from_median(int(n)) for n in size])
    return {
        "mae_ms": float((np.abs(from_median) / seen).mean()),
        "rmse_ms": float(np.sqrt((from_mean**2 * size / (size - 1)).mean())),
        "n_cells": n_cells,
        "n_rows": len(latency),
    }


@cache
def _seen_from_median(n: int) -> float:
    """Return the share of the mean absolute deviation that n normal values show from their own median.

    The values above the median less those below it: each value counts by its chance to be among the upper
    half, given how many of the others lie below it (a binomial count).
    """
    values = np.linspace(-8.0, 8.0, 2001)
    in_upper_half = binom.sf((n + 1) // 2 - 1, n - 1, norm.cdf(values))
    from_own = 2 * np.trapezoid(values * norm.pdf(values) * in_upper_half, values)
    return float(from_own / math.sqrt(2 / math.pi))


def beside_floor(found: Any, floor: Floor | None, phase: str | None = None) -> Any:
    """Return metrics with every error block also as multiples of the noise floor.

    An error block is a mapping with `mae_ms` and `rmse_ms`; it gains `mae_over_floor` and `rmse_over_floor`,
    None where no floor is known. Under a key that names a phase, the floor is that phase's own.

    Parameters
    ----------
    found : dict, list or plain value
        Metrics, nested.
    floor : dict or None
        From `noise_floor`.
    phase : {'prefill', 'decode'}, optional
        Whose floor to take.
    """
    if isinstance(found, list):
        return [beside_floor(item, floor, phase) for item in found]
    if not isinstance(found, Mapping):
        return found
    beside = {
        key: value
        if key in ("noise_floor", "intervals")
        else beside_floor(value, floor, key if key in (PREFILL, DECODE) else phase)
        for key, value in found.items()
    }
    if {"mae_ms", "rmse_ms"} <= set(beside) and "mae_over_floor" not in beside:
        own = (floor or {}).get("by_phase", {}).get(phase) if phase else floor
        for name in ("mae", "rmse"):
            beside[f"{name}_over_floor"] = _multiple(beside[f"{name}_ms"], (own or {}).get(f"{name}_ms"))
    return beside


def _multiple(error_ms: float | None, floor_ms: float | None) -> float | None:
    return error_ms / floor_ms if error_ms is not None and floor_ms else None
