"""What is read from one evaluation: the splits beside each other, the gap between two of them, fewer rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.errors import ConfigError
from llmlat.fit.coefficients import coefficient_table
from llmlat.fit.evaluate import NO_ROWS, baselines, error_block, errors_of, guesses, latency_before
from llmlat.fit.evaluation import Evaluation, OutOfFold, out_of_fold, refit, way_of
from llmlat.fit.uncertainty.bootstrap import ratio_interval
from llmlat.records import DECODE, TARGET

DECIDING_SHARE = 0.1
"""Of the squared error: what a single row may hold before it decides a comparison."""


def validation_of(found: OutOfFold | str) -> dict[str, Any]:
    """Return the errors of out-of-fold predictions of the training rows, all judged together.

    Returns
    -------
    dict
        `validation`, an error block with `n_folds` and `grouped_by`, the column that the folds keep whole,
        and `validation_reason`, None. Where there are no predictions, `validation` is None and
        `validation_reason` says why.
    """
    if isinstance(found, str):
        return {"validation": None, "validation_reason": found}
    told = {"n_folds": len(found.parts), "grouped_by": found.group}
    return {"validation": {**errors_of(found.predictions), **told}, "validation_reason": None}


def splits_compared(evaluation: Evaluation) -> dict[str, Any]:
    """Return an error block for each way of dividing the rows.

    Each has `n_train`, the rows of a fit (their mean over several), `n_test`, and `baselines`, on the same
    rows and of the same fits' rows; where the rows do not allow it no errors, and a `reason`.
    """
    before = latency_before(evaluation.rows)
    return {
        name: _errors_of(way, before, by_value=name.startswith("leave_one_out"))
        for name, way in evaluation.ways.items()
    }


def _errors_of(way: OutOfFold | str, before: pd.Series, *, by_value: bool) -> dict[str, Any]:
    if isinstance(way, str):
        return {**error_block(NO_ROWS, NO_ROWS), "n_train": None, "n_test": None, "reason": way}
    parts = [(test, guesses(before, train, test)) for _, train, test in way.each()]
    measured = np.concatenate([test[TARGET].to_numpy() for test, _ in parts])
    told = {
        **errors_of(way.predictions),
        "n_train": round(np.mean([len(part.train) for part in way.parts])),
        "n_test": len(measured),
        "baselines": {
            name: error_block(measured, np.concatenate([guessed[name] for _, guessed in parts]))
            for name in parts[0][1]
        },
    }
    if by_value:
        told["by_value"] = {str(test[way.group].iloc[0]): errors_of(test) for test, _ in parts}
    return told


def leakage_gap(evaluation: Evaluation, pipeline: Pipeline, seed: int = 0) -> dict[str, Any] | None:
    """Return how much larger the error is on whole groups than on rows at random: of the same rows.

    Every training row is predicted out of fold both ways. A row that alone holds a tenth of the squared error
    or more bends every fit that has seen it, and which rows are spared differs between the ways: it would
    decide the comparison, so it takes no part in either.

    Parameters
    ----------
    evaluation : Evaluation
    pipeline : Pipeline
        Unfitted.
    seed : int
        Shuffles single rows into folds.

    Returns
    -------
    dict or None
        `grouped` (the way that rows at random are compared with: whole prompts where those repeat, otherwise
        whole requests), `random_mae_ms`, `grouped_mae_ms`, and `mae_ratio`, grouped over random: 1 where
        testing on rows at random flatters nothing; `mae_ratio_interval`, [low, high] at 95 % over groups, or
        None with few; `n_rows`, and `n_left_out` rows that would decide it. None where one of the two is not
        known.
    """
    random, grouped = evaluation.ways.get("random"), evaluation.by_group
    if not isinstance(random, OutOfFold) or not isinstance(grouped, OutOfFold):
        return None
    decides = _decides(grouped.predictions)
    if decides.any():
        rows, group = evaluation.train[~decides], evaluation.group
        try:
            random = out_of_fold(rows, pipeline, None, group, seed)
            grouped = out_of_fold(rows, pipeline, group, group, seed)
        except ConfigError:
            return None
    of_random, of_grouped = _miss(random.predictions), _miss(grouped.predictions)
    if not of_random.mean():
        return None
    return {
        "grouped": way_of(evaluation.group),
        "random_mae_ms": float(of_random.mean()),
        "grouped_mae_ms": float(of_grouped.mean()),
        "mae_ratio": float(of_grouped.mean() / of_random.mean()),
        "mae_ratio_interval": ratio_interval(of_grouped, of_random, random.predictions[evaluation.group]),
        "n_rows": len(of_random),
        "n_left_out": int(decides.sum()),
    }


def _miss(predictions: pd.DataFrame) -> pd.Series:
    return (predictions["predicted_ms"] - predictions[TARGET]).abs()


def _decides(predictions: pd.DataFrame) -> Any:
    """Return which rows hold so much of the squared error that one more or less of them decides a mean."""
    squared = _miss(predictions).to_numpy() ** 2
    return squared >= max(DECIDING_SHARE * squared.sum(), np.finfo(np.float64).tiny)


def steady(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the decode rows outside the first request after loading."""
    return rows[(rows["phase"] == DECODE) & (rows["session_request"] > 0)]


def revisited(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the steady rows at context lengths that their process had decoded at before."""
    kept = steady(rows)
    return kept[~kept["first_visit"]]


def refits(evaluation: Evaluation, pipeline: Pipeline) -> dict[str, Any]:
    """Return the same fit on fewer rows: without the slow start, and without new context lengths.

    Returns
    -------
    dict
        `without_warmup_and_prefill` and `without_first_visits`: `n_train`, `n_test`, `n_dropped`, `headline`
        and `refit` (error blocks, of the headline fit and of one on what is left, on the same test rows),
        `baselines`, `coefficients` and `intercept_ms`; these None where too few rows are left.
    """
    kept = {"without_warmup_and_prefill": steady, "without_first_visits": revisited}
    return {name: _refitted(evaluation, pipeline, keep) for name, keep in kept.items()}


def _refitted(evaluation: Evaluation, pipeline: Pipeline, keep: Any) -> dict[str, Any]:
    train, test = keep(evaluation.train), keep(evaluation.predictions)
    dropped = len(evaluation.train) + len(evaluation.predictions) - len(train) - len(test)
    found = {"n_train": len(train), "n_test": len(test), "n_dropped": dropped, "headline": errors_of(test)}
    again = refit(keep, evaluation, pipeline)
    if again is None:
        nothing = {"baselines": None, "coefficients": None, "intercept_ms": None}
        return {**found, "refit": error_block(NO_ROWS, NO_ROWS), **nothing}
    table: Mapping[str, Any] = coefficient_table(again.fitted)
    return {
        **found,
        "refit": error_block(test[TARGET].to_numpy(), again.predicted_ms),
        "baselines": baselines(evaluation.rows, train, test),
        "coefficients": table["coefficients"],
        "intercept_ms": table["intercept_ms"],
    }
