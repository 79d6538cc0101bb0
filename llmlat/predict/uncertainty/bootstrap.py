"""How well errors and coefficients are known: intervals from drawing whole requests with replacement.

Tokens of one request are alike, so rows drawn one by one would make every interval too narrow (the cluster
bootstrap; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import Pipeline

from llmlat.predict.fit import features_of, input_columns
from llmlat.records import TARGET

N_DRAWS = 1000
MIN_GROUPS = 5
Numbers = npt.NDArray[np.float64]


def draws_of(n_groups: int, seed: int = 0, n_draws: int = N_DRAWS) -> Numbers:
    """Return how often each group is drawn in each resample, shape (n_draws, n_groups)."""
    shares = np.full(n_groups, 1 / n_groups)
    return np.random.default_rng(seed).multinomial(n_groups, shares, n_draws).astype(np.float64)


def error_intervals(predictions: pd.DataFrame, group: str) -> dict[str, Any] | None:
    """Return 95 % intervals of the errors, over the requests that were tested on.

    Parameters
    ----------
    predictions : DataFrame
        Test rows with `predicted_ms`.
    group : str
        The column that names what is drawn.

    Returns
    -------
    dict or None
        `mae_ms`, `rmse_ms` and `mape`: [low, high] each, and `n_groups`. None with fewer than five groups.
    """
    measured, predicted = predictions[TARGET].to_numpy(), predictions["predicted_ms"].to_numpy()
    miss = np.abs(measured - predicted)
    _, of_group = np.unique(predictions[group].to_numpy(), return_inverse=True)
    n_groups = int(of_group.max()) + 1
    if n_groups < MIN_GROUPS:
        return None
    relative = miss / np.maximum(np.abs(measured), np.finfo(np.float64).eps)
    sums = np.column_stack(
        [np.bincount(of_group, weights=values) for values in (np.ones_like(miss), miss, miss**2, relative)]
    )
    n, absolute, squared, share = (draws_of(n_groups) @ sums).T
    drawn = {"mae_ms": absolute / n, "rmse_ms": np.sqrt(squared / n), "mape": share / n}
    return {**{name: _interval(values) for name, values in drawn.items()}, "n_groups": n_groups}


def coefficient_intervals(fitted: Pipeline, train: pd.DataFrame, group: str) -> dict[str, Any] | None:
    """Return 95 % intervals of a least-squares regressor's coefficients, over the requests it was fitted on.

    The features stay scaled as in the fit; normal equations add up over requests, so a resample is a weighted
    sum and not another pass over the rows.

    Parameters
    ----------
    fitted : Pipeline
        Fitted on `train`.
    train : DataFrame
    group : str

    Returns
    -------
    dict or None
        For each feature `scaled_ms` and `per_unit_ms`: [low, high] each. None where the regressor is neither
        `Ridge` nor `LinearRegression` with an intercept and free signs, or there are fewer than five groups.
    """
    regressor = fitted.named_steps["regressor"]
    if type(regressor) not in (Ridge, LinearRegression) or regressor.positive or not regressor.fit_intercept:
        return None
    _, of_group = np.unique(train[group].to_numpy(), return_inverse=True)
    n_groups = int(of_group.max()) + 1
    if n_groups < MIN_GROUPS:
        return None
    features = np.asarray(fitted[:-1].transform(train[input_columns(fitted)]), dtype=np.float64)
    design = np.column_stack([np.ones(len(train)), features])
    drawn = _resampled(design, train[TARGET].to_numpy(), of_group, getattr(regressor, "alpha", 0.0))
    table = features_of(fitted)
    scale = fitted.named_steps["scaled"].scale_
    return {
        name: {
            "scaled_ms": _interval(drawn[:, 1 + k]),
            "per_unit_ms": _interval(drawn[:, 1 + k] / scale[k]),
        }
        for k, name in enumerate(table.feature_names_out_)
        if table.telling_[k]
    }


def _resampled(design: Numbers, target: Numbers, of_group: npt.NDArray[np.int64], alpha: float) -> Numbers:
    """Return intercept and coefficients of each resample, shape (n_draws, 1 + n_features)."""
    n_groups, width = int(of_group.max()) + 1, design.shape[1]
    gram, moment = np.zeros((n_groups, width, width)), np.zeros((n_groups, width))
    for k in range(n_groups):
        rows = design[of_group == k]
        gram[k], moment[k] = rows.T @ rows, rows.T @ target[of_group == k]
    draws = draws_of(n_groups)
    penalty = alpha * np.diag([0.0, *np.ones(width - 1)])  # the intercept is not held back
    grams = np.tensordot(draws, gram, 1) + penalty
    solved: Numbers = (np.linalg.pinv(grams, hermitian=True) @ (draws @ moment)[:, :, None])[:, :, 0]
    return solved


def _interval(values: Numbers) -> list[float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]
