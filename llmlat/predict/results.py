"""From token rows to everything the report says: fit, test, and show what the average hides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, DatasetError
from llmlat.predict import thesis
from llmlat.predict.cells import cell_summary
from llmlat.predict.coefficients import coefficient_table, spelled_formula
from llmlat.predict.evaluate import (
    NO_ROWS,
    baselines,
    by_phase,
    error_block,
    first_visits,
    latency_summary,
    worst_rows,
)
from llmlat.predict.fit import feature_columns, fit, predict
from llmlat.predict.flagged import count_flags, without_flagged
from llmlat.predict.floor import beside_floor, noise_floor
from llmlat.predict.refit import refit, revisited, steady
from llmlat.predict.split import Positions, split_rows
from llmlat.predict.trees import boosted_trees
from llmlat.predict.validate import validate
from llmlat.records import DECODE, TARGET

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Analysis:
    """A fitted regressor and what is known about it.

    Attributes
    ----------
    fitted : Pipeline
        Fitted on the training rows.
    metrics : dict
        As docs/metrics.md describes, JSON-serialisable.
    predictions : DataFrame
        The test rows, with `predicted_ms`.
    train : DataFrame
        The training rows.
    """

    fitted: Pipeline
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    train: pd.DataFrame


def analyse(
    rows: pd.DataFrame,
    pipeline: Pipeline,
    split: SplitConfig,
    about: Mapping[str, Any],
    reference: str | None = None,
    contrast: pd.DataFrame | None = None,
    *,
    excludes_flagged: bool = False,
) -> Analysis:
    """Fit a regressor on token rows and test it.

    Parameters
    ----------
    rows : DataFrame
        One row a step, from `llmlat.steps.one_row_a_step`. Warm-up rows are not fitted.
    pipeline : Pipeline
        Unfitted, from `build_pipeline`.
    split : SplitConfig
    about : mapping
        What was measured; `engine` among it. It goes into the metrics as it is.
    reference : str, optional
        `thesis`, to set the thesis's figures and claims beside ours.
    contrast : DataFrame, optional
        Steps of the same measurement with the other engine, for the verdict on the cache.
    excludes_flagged : bool, default=False
        Whether doubtful rows are left out, of fitting and of testing.

    Raises
    ------
    ConfigError
        Where the rows are too few for the split.
    """
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    if counted.empty:
        raise DatasetError("the dataset holds warm-up rows only; measure again with prompts to count.")
    flags = {**count_flags(counted), "excluded": excludes_flagged}
    if excludes_flagged:
        counted = without_flagged(counted)
    train, test = _parts(counted, split_rows(counted, split))
    fitted = fit(pipeline, train)
    predictions = test.assign(predicted_ms=predict(fitted, test))
    coefficients = coefficient_table(fitted)
    floor, floor_reason = noise_floor(counted, feature_columns(pipeline))
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **about,
        **_counts(rows, counted, train, test),
        **_headline(predictions),
        **_settings(pipeline, split),
        **validate(train, pipeline, split),
        "splits": _splits(counted, pipeline, split, train, predictions),
        **coefficients,
        "formula": spelled_formula(coefficients),
        "baselines": baselines(counted, train, test),
        "noise_floor": floor,
        "noise_floor_reason": floor_reason,
        "flags": flags,
        "by_phase": by_phase(predictions),
        "worst_rows": worst_rows(predictions),
        "without_warmup_and_prefill": beside_floor(
            refit(steady, counted, pipeline, train, predictions), floor, DECODE
        ),
        "without_first_visits": beside_floor(
            refit(revisited, counted, pipeline, train, predictions), floor, DECODE
        ),
        "first_visits": first_visits(counted),
        "latency": latency_summary(counted),
        "cells": cell_summary(counted, about.get("measurement")),
        "nonlinear_check": _nonlinear_check(counted, pipeline, split),
    }
    metrics = beside_floor(metrics, floor)
    metrics["verdicts"] = thesis.verdicts(metrics, rows, contrast) if reference == "thesis" else []
    metrics["reference"] = thesis.REFERENCE if reference == "thesis" else None
    return Analysis(fitted, metrics, predictions, train)


def _parts(rows: pd.DataFrame, positions: tuple[Positions, Positions]) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, test = positions
    return rows.iloc[train], rows.iloc[test]


def _counts(
    rows: pd.DataFrame, counted: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame
) -> dict[str, int]:
    return {
        "n_events": len(counted),
        "n_train": len(train),
        "n_test": len(test),
        "n_requests": int(counted["request_id"].nunique()),
        "n_warmup": int(rows["is_warmup"].sum()),
    }


def _settings(pipeline: Pipeline, split: SplitConfig) -> dict[str, Any]:
    regressor = pipeline.named_steps["regressor"]
    return {
        "regressor": {"name": type(regressor).__name__, "parameters": _plain(regressor.get_params())},
        "features": feature_columns(pipeline),
        "split": {"name": str(split.name), "test_size": split.test_size, "seed": split.seed},
    }


def _headline(predictions: pd.DataFrame) -> dict[str, Any]:
    return {name: value for name, value in _errors(predictions).items() if name != "n"}


def _errors(predictions: pd.DataFrame) -> dict[str, Any]:
    return error_block(predictions[TARGET].to_numpy(), predictions["predicted_ms"].to_numpy())


def _splits(
    rows: pd.DataFrame,
    pipeline: Pipeline,
    split: SplitConfig,
    train: pd.DataFrame,
    predictions: pd.DataFrame,
) -> dict[str, Any]:
    """Test under each split of the same size: random beside grouped. The headline's is known already."""
    return {
        str(name): _tested(rows, train, predictions)
        if name is split.name
        else _under(rows, pipeline, SplitConfig(name, split.test_size, split.seed))
        for name in SplitName
    }


def _under(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> dict[str, Any]:
    try:
        train, test = _parts(rows, split_rows(rows, split))
    except ConfigError as error:
        return {**error_block(NO_ROWS, NO_ROWS), "n_train": None, "n_test": None, "reason": str(error)}
    return _tested(rows, train, test.assign(predicted_ms=predict(fit(pipeline, train), test)))


def _tested(rows: pd.DataFrame, train: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    counts = {"n_train": len(train), "n_test": len(predictions)}
    return {**_errors(predictions), **counts, "baselines": baselines(rows, train, predictions)}


def _nonlinear_check(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> dict[str, Any] | None:
    """Return what boosted trees miss on held-out requests; None where none can be held out."""
    by_request = SplitConfig(SplitName.by_request, split.test_size, split.seed)
    try:
        train, test = _parts(rows, split_rows(rows, by_request))
    except ConfigError:
        return None
    return boosted_trees(train, test, feature_columns(pipeline))


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as JSON can hold them."""
    simple = (bool, int, float, str, type(None))
    return {name: value if isinstance(value, simple) else repr(value) for name, value in parameters.items()}
