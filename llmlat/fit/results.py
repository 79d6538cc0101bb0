"""From token rows to everything the report says: fit, test, and show what the average hides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig
from llmlat.errors import DatasetError
from llmlat.fit import thesis
from llmlat.fit.analysis.effects import effects_by_cell
from llmlat.fit.analysis.inputs import along_context, average_effects
from llmlat.fit.analysis.physics import physics_terms
from llmlat.fit.beside import Tested, errors_of, fit_and_test
from llmlat.fit.cells import cell_summary
from llmlat.fit.coefficients import coefficient_table, spelled_formula
from llmlat.fit.evaluate import (
    baselines,
    by_phase,
    first_visits,
    latency_summary,
    worst_rows,
)
from llmlat.fit.fitting import features_of, input_columns, unconverged
from llmlat.fit.flagged import count_flags, without_flagged
from llmlat.fit.floor import Floor, beside_floor, noise_floor
from llmlat.fit.otherwise import tested_otherwise
from llmlat.fit.refit import refit, revisited, steady
from llmlat.fit.split import kept_apart
from llmlat.fit.uncertainty.bootstrap import coefficient_intervals, error_intervals
from llmlat.fit.uncertainty.calibration import Calibration, calibrate_fit
from llmlat.fit.validate import validate, validation_of
from llmlat.records import DECODE

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
    headline = fit_and_test(counted, pipeline, split)
    validated = validate(headline.train, pipeline, split)
    calibration, uncalibrated = calibrate_fit(headline.train, pipeline, split, validated)
    floor, floor_reason = noise_floor(counted, input_columns(pipeline))
    metrics: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": "measured",
        "large": None,
        **about,
        **_notices(about, headline.fitted),
        **_counts(rows, counted, headline),
        **_tested(counted, headline),
        **_settings(pipeline, headline.fitted, split),
        **validation_of(headline.train, validated),
        **_what_was_learnt(headline, kept_apart(split)),
        "calibration": calibration.as_dict() if calibration else None,
        "calibration_reason": uncalibrated,
        **tested_otherwise(counted, pipeline, split, headline, calibration),
        **_refitted(counted, pipeline, headline, kept_apart(split), floor),
        **_latencies(counted, headline.fitted, about.get("measurement")),
        "flags": flags,
        "noise_floor": floor,
        "noise_floor_reason": floor_reason,
    }
    metrics = beside_floor(metrics, floor)
    metrics["verdicts"] = thesis.verdicts(metrics, rows, contrast) if reference == "thesis" else []
    metrics["reference"] = thesis.REFERENCE if reference == "thesis" else None
    return Analysis(headline.fitted, metrics, headline.predictions, counted, headline.train, calibration)


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


def _counts(rows: pd.DataFrame, counted: pd.DataFrame, headline: Tested) -> dict[str, int]:
    return {
        "n_events": len(counted),
        "n_train": len(headline.train),
        "n_test": len(headline.predictions),
        "n_requests": int(counted["request_id"].nunique()),
        "n_warmup": int(rows["is_warmup"].sum()),
    }


def _tested(counted: pd.DataFrame, headline: Tested) -> dict[str, Any]:
    """Return the errors on the headline's test rows, the baselines', and what the average hides."""
    errors = errors_of(headline.predictions)
    return {
        **{name: value for name, value in errors.items() if name != "n"},  # it is `n_test`
        "baselines": baselines(counted, headline.train, headline.predictions),
        "by_phase": by_phase(headline.predictions),
        "worst_rows": worst_rows(headline.predictions),
    }


def _settings(pipeline: Pipeline, fitted: Pipeline, split: SplitConfig) -> dict[str, Any]:
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
        },
    }


def _what_was_learnt(headline: Tested, group: str) -> dict[str, Any]:
    """Return what the fit makes of its features, as a formula where it is one, and how well that is known."""
    coefficients = coefficient_table(headline.fitted)
    return {
        **coefficients,
        "formula": spelled_formula(coefficients),
        "average_effects": average_effects(headline.fitted, headline.train),
        "physics": physics_terms(headline.fitted, headline.train),
        "intervals": {
            "errors": error_intervals(headline.predictions, group),
            "coefficients": coefficient_intervals(headline.fitted, headline.train, group),
        },
    }


def _refitted(
    counted: pd.DataFrame, pipeline: Pipeline, headline: Tested, group: str, floor: Floor | None
) -> dict[str, Any]:
    """Return the same fit on fewer rows, beside the noise floor of the decode rows that are left."""
    kept = {"without_warmup_and_prefill": steady, "without_first_visits": revisited}
    return {
        name: beside_floor(refit(keep, counted, pipeline, headline, group), floor, DECODE)
        for name, keep in kept.items()
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
