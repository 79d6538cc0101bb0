"""How well errors and coefficients are known: intervals from drawing whole requests with replacement.

Tokens of one request are alike, so rows drawn one by one would make every interval too narrow (the cluster
bootstrap; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8).

Of few requests, the plain percentiles of resamples are too narrow as well: those of eight, said to hold 95 %,
hold 86 %. They are taken as much further out as Student's distribution reaches beyond the normal one (the
expanded percentile interval; Hesterberg, "What teachers should know about the bootstrap", The American
Statistician 69, 2015).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, t
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import Pipeline

from llmlat.fit.fitting import features_of, input_columns
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
    return {**{name: interval(values, n_groups) for name, values in drawn.items()}, "n_groups": n_groups}


def ratio_interval(over: pd.Series, under: pd.Series, group: pd.Series) -> list[float] | None:
    """Return the 95 % interval, over groups, of the ratio of two means of the same rows.

    None with fewer than five groups, or where the lower one is 0 in every row of a resample.
    """
    sums = pd.DataFrame({"over": over, "under": under}).groupby(group.to_numpy()).sum()
    if len(sums) < MIN_GROUPS:
        return None
    above, below = (draws_of(len(sums)) @ sums.to_numpy()).T
    return interval(above / below, len(sums)) if (below > 0).all() else None


def coefficient_intervals(fitted: Pipeline, train: pd.DataFrame, group: str) -> dict[str, Any] | None:
    """Return 95 % intervals of a least-squares regressor's coefficients, over the requests it was fitted on.

    The features stay scaled as in the fit.

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
    alpha = getattr(regressor, "alpha", 0.0)
    drawn = resampled(design, train[TARGET].to_numpy(), of_group, draws_of(n_groups), alpha)
    table = features_of(fitted)
    scale = fitted.named_steps["scaled"].scale_
    return {
        name: {
            "scaled_ms": interval(drawn[:, 1 + k], n_groups),
            "per_unit_ms": interval(drawn[:, 1 + k] / scale[k], n_groups),
        }
        for k, name in enumerate(table.feature_names_out_)
        if table.telling_[k]
    }


def resampled(
    design: Numbers, target: Numbers, of_group: npt.NDArray[np.int64], draws: Numbers, alpha: float = 0.0
) -> Numbers:
    """Return the least-squares coefficients of each resample.

    Normal equations add up over groups, so a resample is a weighted sum and not another pass over the rows.

    Parameters
    ----------
    design : ndarray of float64, shape (n_rows, n_columns)
        The first column is the intercept's.
    target : ndarray of float64, shape (n_rows,)
    of_group : ndarray of int64, shape (n_rows,)
        The number of each row's group.
    draws : ndarray of float64, shape (n_draws, n_groups)
        How often each group is drawn.
    alpha : float, default=0.0
        Ridge's penalty; the intercept is not held back.

    Returns
    -------
    ndarray of float64, shape (n_draws, n_columns)
    """
    n_groups, width = draws.shape[1], design.shape[1]
    gram, moment = np.zeros((n_groups, width, width)), np.zeros((n_groups, width))
    for k in range(n_groups):
        rows = design[of_group == k]
        gram[k], moment[k] = rows.T @ rows, rows.T @ target[of_group == k]
    grams = np.tensordot(draws, gram, 1) + alpha * np.diag([0.0, *np.ones(width - 1)])
    solved: Numbers = (np.linalg.pinv(grams, hermitian=True) @ (draws @ moment)[:, :, None])[:, :, 0]
    return solved


def interval(drawn: Numbers, n_groups: int) -> list[float]:
    """Return the ends of the 95 % interval that values of resamples of so many groups tell."""
    further_out = np.sqrt(n_groups / (n_groups - 1)) * t.ppf(0.025, n_groups - 1)
    share = norm.cdf(further_out)
    low, high = np.quantile(drawn, [share, 1 - share])
    return [float(low), float(high)]
