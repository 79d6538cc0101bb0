"""From token rows to everything the report says: fit, test, and show what the average hides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig
from llmlat.errors import DatasetError
from llmlat.fit import thesis
from llmlat.fit.analysis.effects import effects_by_cell
from llmlat.fit.analysis.inputs import along_context, average_effects, shuffled
from llmlat.fit.analysis.physics import physics_terms
from llmlat.fit.cells import cell_summary
from llmlat.fit.coefficients import coefficient_table, spelled_formula
from llmlat.fit.compared import leakage_gap, refits, splits_compared, validation_of
from llmlat.fit.evaluate import (
    baselines,
    by_phase,
    error_block,
    errors_of,
    first_visits,
    latency_summary,
    worst_rows,
)
from llmlat.fit.evaluation import Evaluation, evaluate
from llmlat.fit.fitting import features_of, input_columns, unconverged
from llmlat.fit.flagged import count_flags, without_flagged
from llmlat.fit.floor import beside_floor, noise_floor
from llmlat.fit.trees import boosted_trees
from llmlat.fit.uncertainty.bootstrap import coefficient_intervals, error_intervals
from llmlat.fit.uncertainty.calibration import Calibration, calibrate_bands, crossed_coverage
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
    counted, flags = _counted(rows, excludes_flagged=excludes_flagged)
    evaluation = evaluate(counted, pipeline, split)
    calibration, uncalibrated = _calibrated(evaluation)
    floor, floor_reason = noise_floor(counted, input_columns(pipeline))
    fitted = evaluation.headline.fitted
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": "measured",
        "large": None,
        **about,
        **_notices(about, fitted),
        **_counts(rows, evaluation),
        **_tested(evaluation),
        **_settings(pipeline, fitted, split, evaluation.group),
        **validation_of(evaluation.by_group),
        **_what_was_learnt(evaluation),
        "calibration": calibration.as_dict() if calibration else None,
        "calibration_reason": uncalibrated,
        "splits": splits_compared(evaluation),
        "leakage_gap": leakage_gap(evaluation, pipeline, split.seed),
        **_out_of_fold(evaluation),
        **beside_floor(refits(evaluation, pipeline), floor, DECODE),
        **_latencies(counted, fitted, about.get("measurement")),
        "flags": flags,
        "noise_floor": floor,
        "noise_floor_reason": floor_reason,
    }
    metrics = beside_floor(metrics, floor)
    metrics["verdicts"] = thesis.verdicts(metrics, rows, contrast) if reference == "thesis" else []
    metrics["reference"] = thesis.REFERENCE if reference == "thesis" else None
    return Analysis(fitted, metrics, evaluation.predictions, counted, evaluation.train, calibration)


def _counted(rows: pd.DataFrame, *, excludes_flagged: bool) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows to fit and test on, and how many are doubtful, before any is left out.

    Raises
    ------
    DatasetError
        Where none is left.
    """
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    if counted.empty:
        raise DatasetError("the dataset holds warm-up rows only; measure again with prompts to count.")
    flags = {**count_flags(counted), "excluded": excludes_flagged}
    return without_flagged(counted) if excludes_flagged else counted, flags


def _notices(about: Mapping[str, Any], fitted: Pipeline) -> dict[str, list[str]]:
    notice = unconverged(fitted)
    return {"notices": [*about.get("notices", []), notice]} if notice else {}


def _counts(rows: pd.DataFrame, evaluation: Evaluation) -> dict[str, int]:
    return {
        "n_events": len(evaluation.rows),
        "n_train": len(evaluation.train),
        "n_test": len(evaluation.predictions),
        "n_requests": int(evaluation.rows["request_id"].nunique()),
        "n_warmup": int(rows["is_warmup"].sum()),
    }


def _tested(evaluation: Evaluation) -> dict[str, Any]:
    """Return the errors on the headline's test rows, the baselines', and what the average hides."""
    predictions = evaluation.predictions
    errors = errors_of(predictions)
    return {
        **{name: value for name, value in errors.items() if name != "n"},  # it is `n_test`
        "baselines": baselines(evaluation.rows, evaluation.train, predictions),
        "by_phase": by_phase(predictions),
        "worst_rows": worst_rows(predictions),
    }


def _calibrated(evaluation: Evaluation) -> tuple[Calibration | None, str | None]:
    """Return the bands, or None and why."""
    found = evaluation.by_group
    if isinstance(found, str):
        return None, found
    beyond = evaluation.beyond
    bands = calibrate_bands(found.predictions, evaluation.group, beyond.predictions if beyond else None)
    return bands, None


def _out_of_fold(evaluation: Evaluation) -> dict[str, Any]:
    """Return what only whole groups tell that a fit has not seen; None each where none can be held out."""
    found = evaluation.by_group
    if isinstance(found, str):
        return {"coverage": None, "importance": None, "nonlinear_check": None}
    folds = [test for _, _, test in found.each()]
    fold = np.concatenate([np.full(len(part.test), k) for k, part in enumerate(found.parts)])
    fold = fold[np.argsort(np.concatenate([part.test for part in found.parts]), kind="stable")]
    measured = found.predictions[TARGET].to_numpy()
    features = features_of(evaluation.headline.fitted).transform(found.predictions)
    return {
        "coverage": crossed_coverage(folds, evaluation.group) if len(folds) > 1 else None,
        "importance": shuffled([(fitted, test) for fitted, _, test in found.each()]),
        "nonlinear_check": error_block(measured, boosted_trees(features, measured, fold)),
    }


def _settings(pipeline: Pipeline, fitted: Pipeline, split: SplitConfig, group: str) -> dict[str, Any]:
    regressor, features = pipeline.named_steps["regressor"], features_of(fitted)
    return {
        "regressor": {"name": type(regressor).__name__, "parameters": _plain(regressor.get_params())},
        "chosen": _choices(fitted.named_steps["regressor"]),
        "features": list(features.columns),
        "derived": dict(features.derived or {}),
        "inputs": features.inputs(),
        "left_out": dict(features.left_out_),
        "split": {
            "name": str(split.name),
            "test_size": split.test_size,
            "seed": split.seed,
            "column": split.column,
            "held_out": split.held_out,
            "group": group,
        },
    }


def _what_was_learnt(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the fit makes of its features, as a formula where it is one, and how well that is known."""
    fitted, train, group = evaluation.headline.fitted, evaluation.train, evaluation.group
    coefficients = coefficient_table(fitted)
    return {
        **coefficients,
        "formula": spelled_formula(coefficients),
        "average_effects": average_effects(fitted, train),
        "physics": physics_terms(fitted, train),
        "intervals": {
            "errors": error_intervals(evaluation.predictions, group),
            "coefficients": coefficient_intervals(fitted, train, group),
        },
    }


def _latencies(
    counted: pd.DataFrame, fitted: Pipeline, measurement: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what the rows say by themselves, and the fit's curve through them."""
    return {
        "effects": effects_by_cell(counted),
        "along_context": along_context(fitted, counted),
        "first_visits": first_visits(counted),
        "latency": latency_summary(counted),
        "cells": cell_summary(counted, measurement),
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
