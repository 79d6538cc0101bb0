"""From token rows to everything the report says: fit, test, and show what the average hides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, DatasetError
from llmlat.predict import thesis
from llmlat.predict.analysis.effects import effects_by_cell
from llmlat.predict.analysis.inputs import along_context, average_effects, shuffled
from llmlat.predict.beside import leakage_gap, parts, splits_beside
from llmlat.predict.cells import cell_summary
from llmlat.predict.coefficients import coefficient_table, spelled_formula
from llmlat.predict.evaluate import (
    baselines,
    by_phase,
    error_block,
    first_visits,
    latency_summary,
    worst_rows,
)
from llmlat.predict.fit import features_of, fit, input_columns, predict
from llmlat.predict.flagged import count_flags, without_flagged
from llmlat.predict.floor import beside_floor, noise_floor
from llmlat.predict.refit import refit, revisited, steady
from llmlat.predict.split import kept_apart, split_rows
from llmlat.predict.trees import boosted_trees
from llmlat.predict.uncertainty.bootstrap import coefficient_intervals, error_intervals
from llmlat.predict.uncertainty.calibration import Calibration, calibrate_fit, coverage
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
    calibration : Calibration or None
        How far off it may be; None where the rows do not allow to tell.
    """

    fitted: Pipeline
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    train: pd.DataFrame
    calibration: Calibration | None


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
    train, test = parts(counted, split_rows(counted, split))
    group = kept_apart(split)
    fitted = fit(pipeline, train, group)
    predictions = test.assign(predicted_ms=predict(fitted, test))
    coefficients = coefficient_table(fitted)
    floor, floor_reason = noise_floor(counted, input_columns(pipeline))
    calibration, uncalibrated = calibrate_fit(train, pipeline, split)
    splits = splits_beside(counted, pipeline, split, train, predictions)
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": "measured",
        **about,
        **_counts(rows, counted, train, test),
        **_headline(predictions),
        **_settings(pipeline, fitted, split),
        **validate(train, pipeline, split),
        "splits": splits,
        "leakage_gap": leakage_gap(splits),
        **coefficients,
        "formula": spelled_formula(coefficients),
        "average_effects": average_effects(fitted, train),
        "intervals": {
            "errors": error_intervals(predictions, group),
            "coefficients": coefficient_intervals(fitted, train, group),
        },
        "calibration": calibration.as_dict() if calibration else None,
        "calibration_reason": uncalibrated,
        **_on_held_out_requests(counted, pipeline, split),
        "effects": effects_by_cell(counted),
        "along_context": along_context(fitted, counted),
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
        "cells": cell_summary(counted),
    }
    metrics = beside_floor(metrics, floor)
    metrics["verdicts"] = thesis.verdicts(metrics, rows, contrast) if reference == "thesis" else []
    metrics["reference"] = thesis.REFERENCE if reference == "thesis" else None
    return Analysis(fitted, metrics, predictions, train, calibration)


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


def _settings(pipeline: Pipeline, fitted: Pipeline, split: SplitConfig) -> dict[str, Any]:
    regressor, features = pipeline.named_steps["regressor"], features_of(fitted)
    return {
        "regressor": {"name": type(regressor).__name__, "parameters": _plain(regressor.get_params())},
        "chosen": getattr(fitted.named_steps["regressor"], "choices_", None),
        "features": list(features.columns),
        "inputs": features.inputs(),
        "left_out": dict(features.left_out_),
        "split": {
            "name": str(split.name),
            "test_size": split.test_size,
            "seed": split.seed,
            "column": split.column,
            "held_out": split.held_out,
        },
    }


def _headline(predictions: pd.DataFrame) -> dict[str, Any]:
    errors = error_block(predictions[TARGET].to_numpy(), predictions["predicted_ms"].to_numpy())
    return {name: value for name, value in errors.items() if name != "n"}


def _on_held_out_requests(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> dict[str, Any]:
    """Return what can only be told on requests, or prompts, that a fit and its calibration have not seen.

    `coverage` of 90 % intervals, `importance` of the inputs, and `nonlinear_check`, what boosted trees miss;
    None each where none can be held out.
    """
    name = split.name if split.name is SplitName.by_prompt else SplitName.by_request
    grouped = SplitConfig(name, split.test_size, split.seed)
    try:
        train, test = parts(rows, split_rows(rows, grouped))
        fitted = fit(pipeline, train, kept_apart(grouped))
        predicted = predict(fitted, test)
    except ConfigError:
        return {"coverage": None, "importance": None, "nonlinear_check": None}
    calibration, _ = calibrate_fit(train, pipeline, grouped)
    return {
        "coverage": coverage(test, predicted, calibration) if calibration else None,
        "importance": shuffled(fitted, test),
        "nonlinear_check": boosted_trees(
            *(features_of(fitted).transform(part) for part in (train, test)),
            *(part[TARGET].to_numpy() for part in (train, test)),
        ),
    }


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as JSON can hold them."""
    simple = (bool, int, float, str, type(None))
    return {name: value if isinstance(value, simple) else repr(value) for name, value in parameters.items()}
