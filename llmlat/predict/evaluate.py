"""How far a predictor may be trusted: errors, baselines and the noise floor. Pure functions of frames."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics as sk

from llmlat.records import DECODE, PREFILL, TARGET

Milliseconds = npt.NDArray[np.float64]
NO_ROWS: Milliseconds = np.empty(0)


def error_block(measured_ms: Milliseconds, predicted_ms: Milliseconds) -> dict[str, Any]:
    """Return the errors of predictions.

    Parameters
    ----------
    measured_ms, predicted_ms : ndarray of float64, shape (n_rows,)

    Returns
    -------
    dict
        `n`, `mae_ms`, `rmse_ms`, `median_ae_ms`, `r2` (None where the rows do not vary) and `mape` (a
        fraction); all None but `n` where there are no rows.
    """
    n = len(measured_ms)
    if n == 0:
        return dict.fromkeys(("n", "mae_ms", "rmse_ms", "median_ae_ms", "r2", "mape")) | {"n": 0}
    varies = n > 1 and float(np.ptp(measured_ms)) > 0
    return {
        "n": n,
        "mae_ms": float(sk.mean_absolute_error(measured_ms, predicted_ms)),
        "rmse_ms": float(sk.root_mean_squared_error(measured_ms, predicted_ms)),
        "median_ae_ms": float(sk.median_absolute_error(measured_ms, predicted_ms)),
        "r2": float(sk.r2_score(measured_ms, predicted_ms)) if varies else None,
        "mape": float(sk.mean_absolute_percentage_error(measured_ms, predicted_ms)),
    }


def previous_latency(rows: pd.DataFrame) -> pd.Series:
    """Return, for each row, the latency of the token before it in its request; NaN for token 0."""
    in_order = rows.sort_values(["session_id", "request_id", "token_index"], kind="stable")
    shifted = in_order.groupby(["session_id", "request_id"], sort=False)[TARGET].shift(1)
    return shifted.reindex(rows.index)


def baselines(rows: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the errors of predictors that look at no feature.

    Parameters
    ----------
    rows : DataFrame
        All counted rows, where the token before a test row is looked up.
    train, test : DataFrame
        Parts of `rows`.

    Returns
    -------
    dict
        `mean` and `median` of the training rows; `last_token`, the latency of the token before, which for
        token 0 is the training rows' median prefill latency.
    """
    measured = test[TARGET].to_numpy()
    train_prefill = train.loc[train["phase"] == PREFILL, TARGET]
    first = float((train_prefill if len(train_prefill) else train[TARGET]).median())
    last = previous_latency(rows).loc[test.index].fillna(first).to_numpy()
    return {
        "mean": error_block(measured, np.full(len(test), train[TARGET].mean())),
        "median": error_block(measured, np.full(len(test), train[TARGET].median())),
        "last_token": error_block(measured, last),
    }


def noise_floor(rows: pd.DataFrame, features: list[str]) -> tuple[dict[str, Any] | None, str | None]:
    """Return the error that no predictor on these features can beat, from rows whose features are equal.

    Within a cell of R rows with equal features the best prediction is the cell's mean. Deviations from a mean
    of R rows are short by sqrt((R - 1) / R), which is made good.

    Parameters
    ----------
    rows : DataFrame
        Counted token rows.
    features : list of str
        The columns that a predictor sees.

    Returns
    -------
    floor : dict or None
        `mae_ms`, `rmse_ms`, `n_cells`, `n_rows`.
    reason : str or None
        Why there is none.
    """
    cells = rows.groupby(features, sort=False)[TARGET]
    size = cells.transform("size").to_numpy()
    repeated = size > 1
    n_cells = int((cells.size() > 1).sum())
    if n_cells < 2:
        return None, "hardly any rows have the same features; measure with collect.repetitions=3 or more"
    deviation = (rows[TARGET] - cells.transform("mean")).to_numpy()[repeated]
    whole = deviation * np.sqrt(size[repeated] / (size[repeated] - 1))
    floor = {
        "mae_ms": float(np.abs(whole).mean()),
        "rmse_ms": float(np.sqrt((whole**2).mean())),
        "n_cells": n_cells,
        "n_rows": int(repeated.sum()),
    }
    return floor, None


def by_phase(predictions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the errors of prefill rows and of decode rows apart."""
    return {
        phase: error_block(part[TARGET].to_numpy(), part["predicted_ms"].to_numpy())
        for phase in ("prefill", "decode")
        for part in [predictions[predictions["phase"] == phase]]
    }


def worst_rows(predictions: pd.DataFrame, counts: tuple[int, ...] = (1, 5, 10)) -> dict[str, Any]:
    """Return which test rows hold the squared error, and how much of it.

    Parameters
    ----------
    predictions : DataFrame
        Test rows with `predicted_ms`.
    counts : tuple of int
        How many of the worst rows to add up.
    """
    squared = (predictions["predicted_ms"] - predictions[TARGET]) ** 2
    order = squared.sort_values(ascending=False)
    total = float(order.sum())
    shown = [
        "request_id",
        "prompt_id",
        "token_index",
        "phase",
        "prompt_tokens",
        "context_length",
        "session_request",
    ]
    rows = predictions.loc[order.index[: counts[1]], [*shown, TARGET, "predicted_ms"]]
    return {
        "share_of_squared_error": {
            str(n): float(order.iloc[:n].sum()) / total if total else 0.0 for n in counts
        },
        "rows": rows.to_dict(orient="records"),
    }


def latency_summary(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return median, 5th and 95th percentile and maximum of each phase's latencies."""
    summary = {}
    for phase in ("prefill", "decode"):
        latency = rows.loc[rows["phase"] == phase, TARGET]
        p5, median, p95 = latency.quantile([0.05, 0.5, 0.95]) if len(latency) else (None, None, None)
        summary[phase] = {
            "n": len(latency),
            "median_ms": median,
            "p5_ms": p5,
            "p95_ms": p95,
            "max_ms": latency.max() if len(latency) else None,
        }
    return summary


def first_visits(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what a decode step costs where its process had not decoded at that context length before.

    Libraries that plan or tune per shape pay for it once. The cost is compared at equal context lengths, so
    that it is not confused with the context's own.

    Parameters
    ----------
    rows : DataFrame
        Counted token rows.

    Returns
    -------
    dict
        `n_first` and `n_later` decode rows with their medians, `median_first_ms` and `median_later_ms`; over
        the `n_compared` context lengths with both, `median_cost_ms`, how much slower the first visit was, and
        `slower_share`, at how many of them it was slower at all.
    """
    decode = rows[rows["phase"] == DECODE]
    first, later = decode[decode["first_visit"]], decode[~decode["first_visit"]]
    by_context = [part.groupby("context_length")[TARGET].median() for part in (first, later)]
    cost = (by_context[0] - by_context[1]).dropna()
    return {
        "n_first": len(first),
        "n_later": len(later),
        "median_first_ms": float(first[TARGET].median()) if len(first) else None,
        "median_later_ms": float(later[TARGET].median()) if len(later) else None,
        "n_compared": len(cost),
        "median_cost_ms": float(cost.median()) if len(cost) else None,
        "slower_share": float((cost > 0).mean()) if len(cost) else None,
    }
