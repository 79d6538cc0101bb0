"""How far a predictor may be trusted: errors, baselines and the noise floor. Pure functions of frames."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.records import DECODE, PREFILL, TARGET, TIME
from llmlat.steps import previous_latency

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
    # By hand: what scikit-learn's five functions check of their arguments takes longer than all of this.
    miss = np.abs(measured_ms - predicted_ms)
    squared = float(np.square(miss).sum())
    varies = n > 1 and float(np.ptp(measured_ms)) > 0
    spread = float(np.square(measured_ms - np.mean(measured_ms)).sum())
    return {
        "n": n,
        "mae_ms": float(miss.mean()),
        "rmse_ms": math.sqrt(squared / n),
        "median_ae_ms": float(np.median(miss)),
        "r2": 1.0 - squared / spread if varies else None,
        "mape": float((miss / np.maximum(np.abs(measured_ms), np.finfo(np.float64).eps)).mean()),
    }


def errors_of(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the error block of rows with `predicted_ms`."""
    return error_block(predictions[TARGET].to_numpy(), predictions["predicted_ms"].to_numpy())


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
        `mean` and `median` of the training rows; where the rows tell their order, `last_token`, the latency
        of the token before, which for token 0 is the training rows' median prefill latency.
    """
    measured = test[TARGET].to_numpy()
    guessed = guesses(latency_before(rows), train, test)
    return {name: error_block(measured, values) for name, values in guessed.items()}


def latency_before(rows: pd.DataFrame) -> pd.Series:
    """Return the latency of the token before each row; missing everywhere where the rows tell no order."""
    if rows[TIME].nunique() > 1:
        return previous_latency(rows)
    return pd.Series(np.nan, index=rows.index)


def guesses(before: pd.Series, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Milliseconds]:
    """Return what predictors that look at no feature say of the test rows.

    Parameters
    ----------
    before : Series
        From `latency_before`.
    train, test : DataFrame
    """
    found = {
        "mean": np.full(len(test), train[TARGET].mean()),
        "median": np.full(len(test), train[TARGET].median()),
    }
    if before.notna().any():
        train_prefill = train.loc[train["phase"] == PREFILL, TARGET]
        first = float((train_prefill if len(train_prefill) else train[TARGET]).median())
        found["last_token"] = before.loc[test.index].fillna(first).to_numpy()
    return found


def by_phase(predictions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the errors of prefill rows and of decode rows apart."""
    return {phase: errors_of(predictions[predictions["phase"] == phase]) for phase in (PREFILL, DECODE)}


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

    Libraries that plan or tune per shape pay for it once. The cost is compared at equal contexts of the same
    cell, so that it is not confused with the context's own.

    Parameters
    ----------
    rows : DataFrame
        Counted token rows.

    Returns
    -------
    dict
        `n_first` and `n_later` decode rows with their medians, `median_first_ms` and `median_later_ms`; over
        the `n_compared` contexts of a cell with both, `median_cost_ms`, how much slower the first visit was,
        and `slower_share`, at how many of them it was slower at all.
    """
    # A server does not tell how it pads: then the sequence's own context is all there is to go by.
    padded = rows["padded_context_length"].fillna(rows["context_length"])
    decode = rows.assign(padded_context_length=padded)[rows["phase"] == DECODE]
    first, later = decode[decode["first_visit"]], decode[~decode["first_visit"]]
    shape = ["model", "quantization", "engine", "batch_size", "num_beams", "padded_context_length"]
    by_shape = [part.groupby(shape)[TARGET].median() for part in (first, later)]
    cost = (by_shape[0] - by_shape[1]).dropna()
    return {
        "n_first": len(first),
        "n_later": len(later),
        "median_first_ms": float(first[TARGET].median()) if len(first) else None,
        "median_later_ms": float(later[TARGET].median()) if len(later) else None,
        "n_compared": len(cost),
        "median_cost_ms": float(cost.median()) if len(cost) else None,
        "slower_share": float((cost > 0).mean()) if len(cost) else None,
    }
