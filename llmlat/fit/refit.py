"""The same fit on fewer rows: what is left when the slow start, or new context lengths, are set aside."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.fit.beside import Tested, errors_of
from llmlat.fit.coefficients import coefficient_table
from llmlat.fit.evaluate import NO_ROWS, baselines, error_block
from llmlat.fit.fitting import fit, predict
from llmlat.fit.split import MIN_TRAIN_ROWS
from llmlat.records import DECODE, TARGET

Keep = Callable[[pd.DataFrame], pd.DataFrame]


def steady(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the decode rows outside the first request after loading."""
    return rows[(rows["phase"] == DECODE) & (rows["session_request"] > 0)]


def revisited(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the steady rows at context lengths that their process had decoded at before."""
    kept = steady(rows)
    return kept[~kept["first_visit"]]


def refit(keep: Keep, rows: pd.DataFrame, pipeline: Pipeline, headline: Tested, group: str) -> dict[str, Any]:
    """Fit again on some of the training rows, and test both fits on the same test rows.

    Parameters
    ----------
    keep : callable
        Maps rows to those that stay.
    rows : DataFrame
        All counted rows.
    pipeline : Pipeline
        Unfitted.
    headline : Tested
    group : str
        The column that the headline fit kept apart.

    Returns
    -------
    dict
        `n_train`, `n_test`, `n_dropped`, `headline` and `refit` (error blocks), `baselines`, `coefficients`
        and `intercept_ms`; None where too few rows are left.
    """
    train, predictions = headline.train, headline.predictions
    kept_train, kept_test = keep(train), keep(predictions)
    measured = kept_test[TARGET].to_numpy()
    found: dict[str, Any] = {
        "n_train": len(kept_train),
        "n_test": len(kept_test),
        "n_dropped": len(train) + len(predictions) - len(kept_train) - len(kept_test),
        "headline": errors_of(kept_test),
    }
    if len(kept_train) < MIN_TRAIN_ROWS or kept_test.empty:
        nothing = {"baselines": None, "coefficients": None, "intercept_ms": None}
        return {**found, "refit": error_block(NO_ROWS, NO_ROWS), **nothing}
    refitted = fit(pipeline, kept_train, group)
    table = coefficient_table(refitted)
    return {
        **found,
        "refit": error_block(measured, predict(refitted, kept_test)),
        "baselines": baselines(rows, kept_train, kept_test),
        "coefficients": table["coefficients"],
        "intercept_ms": table["intercept_ms"],
    }
