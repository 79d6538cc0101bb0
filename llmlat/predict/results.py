"""From token rows to everything the report says: fit, test, and show what the average hides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, DatasetError
from llmlat.predict import thesis
from llmlat.predict.analysis.effects import effects_by_cell
from llmlat.predict.analysis.inputs import along_context, average_effects, shuffled
from llmlat.predict.analysis.physics import physics_terms
from llmlat.predict.beside import Tested, errors_of, fit_and_test, leakage_gap, splits_beside
from llmlat.predict.cells import cell_summary
from llmlat.predict.coefficients import coefficient_table, spelled_formula
from llmlat.predict.evaluate import (
    baselines,
    by_phase,
    first_visits,
    latency_summary,
    worst_rows,
)
from llmlat.predict.fit import features_of, input_columns
from llmlat.predict.flagged import count_flags, without_flagged
from llmlat.predict.floor import beside_floor, noise_floor
from llmlat.predict.refit import refit, revisited, steady
from llmlat.predict.split import UNITS, kept_apart
from llmlat.predict.trees import boosted_trees
from llmlat.predict.uncertainty.bootstrap import coefficient_intervals, error_intervals
from llmlat.predict.uncertainty.calibration import Calibration, calibrate_fit, coverage
from llmlat.predict.validate import validate, validation_of
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
    counted : DataFrame
        All rows that were fitted or tested on.
    train : DataFrame
        The training rows.
    calibration : Calibration or None
        How far off it may be; None where the rows do not allow to tell.
    """

    fitted: Pipeline
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    counted: pd.DataFrame
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
    headline = fit_and_test(counted, pipeline, split)
    fitted, train, predictions = headline.fitted, headline.train, headline.predictions
    group, validated = kept_apart(split), validate(train, pipeline, split)
    coefficients = coefficient_table(fitted)
    floor, floor_reason = noise_floor(counted, input_columns(pipeline))
    calibration, uncalibrated = calibrate_fit(train, pipeline, split, validated)
    grouped = split if split.name in UNITS else replace(split, name=SplitName.by_request, column=None)
    held_out = headline if grouped is split else _held_out(counted, pipeline, grouped)
    known = {split.name: headline, **({grouped.name: held_out} if held_out else {})}
    splits = splits_beside(counted, pipeline, split, known)
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": "measured",
        "large": None,
        **about,
        **_counts(rows, counted, train, predictions),
        **{name: value for name, value in errors_of(predictions).items() if name != "n"},
        **_settings(pipeline, fitted, split),
        **validation_of(train, validated),
        "splits": splits,
        "leakage_gap": leakage_gap(splits),
        **coefficients,
        "formula": spelled_formula(coefficients),
        "average_effects": average_effects(fitted, train),
        "physics": physics_terms(fitted, train),
        "intervals": {
            "errors": error_intervals(predictions, group),
            "coefficients": coefficient_intervals(fitted, train, group),
        },
        "calibration": calibration.as_dict() if calibration else None,
        "calibration_reason": uncalibrated,
        **_on_held_out(held_out, pipeline, grouped, calibration if held_out is headline else None),
        "effects": effects_by_cell(counted),
        "along_context": along_context(fitted, counted),
        "baselines": baselines(counted, train, predictions),
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
    }
    metrics = beside_floor(metrics, floor)
    metrics["verdicts"] = thesis.verdicts(metrics, rows, contrast) if reference == "thesis" else []
    metrics["reference"] = thesis.REFERENCE if reference == "thesis" else None
    return Analysis(fitted, metrics, predictions, counted, train, calibration)


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
        "chosen": _choices(fitted.named_steps["regressor"]),
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


def _held_out(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> Tested | None:
    try:
        return fit_and_test(rows, pipeline, split)
    except ConfigError:
        return None


def _on_held_out(
    tested: Tested | None, pipeline: Pipeline, split: SplitConfig, calibration: Calibration | None
) -> dict[str, Any]:
    """Return what can only be told on requests, or prompts, that a fit and its calibration have not seen.

    `coverage` of 90 % intervals, `importance` of the inputs, and `nonlinear_check`, what boosted trees miss;
    None each where none can be held out.
    """
    if tested is None:
        return {"coverage": None, "importance": None, "nonlinear_check": None}
    train, test = tested.train, tested.predictions
    if calibration is None:
        calibration, _ = calibrate_fit(train, pipeline, split)
    predicted_ms, table = test["predicted_ms"].to_numpy(), features_of(tested.fitted)
    return {
        "coverage": coverage(test, predicted_ms, calibration) if calibration else None,
        "importance": shuffled(tested.fitted, test),
        "nonlinear_check": boosted_trees(
            table.transform(train), table.transform(test), train[TARGET].to_numpy(), test[TARGET].to_numpy()
        ),
    }


def _choices(regressor: Any) -> dict[str, Any] | None:
    """Return what a regressor chose, by the values that it chose for, as texts: JSON has no other keys."""
    choices = getattr(regressor, "choices_", None)
    if choices is None:
        return None
    return {f"{key:g}" if isinstance(key, float) else str(key): choice for key, choice in choices.items()}


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters as JSON can hold them."""
    return {str(name): _plain_value(value) for name, value in parameters.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    simple = (bool, int, str, type(None))
    is_plain = isinstance(value, simple) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else " ".join(repr(value).split())
