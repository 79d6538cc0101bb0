"""Writes a fitted pipeline as a predictor that programs load and people read."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from llmlat.files import write_atomically, write_json
from llmlat.fit.features.table import FeatureTable
from llmlat.fit.fitting import features_of
from llmlat.fit.results import Analysis
from llmlat.formulas.formula import parse
from llmlat.predict.predictor import FORMAT
from llmlat.records import KNOWN, TARGET

_ABOUT = (
    "llmlat_version",
    "experiment",
    "model",
    "weights",
    "stand_in",
    "stand_in_for",
    "quantization",
    "engine",
    "device",
    "dataset_key",
)
_ERRORS = ("n_train", "n_test", "mae_ms", "rmse_ms", "median_ae_ms", "r2", "mape", "split")


def write_predictor(folder: Path, analysis: Analysis) -> Path:
    """Write `predictor.json` into a run folder and return its path.

    A linear predictor is whole in that file. Any other is kept as `predictor.joblib` beside it, named with
    its hash.
    """
    spec = predictor_spec(analysis)
    if spec["kind"] == "pipeline":
        buffer = io.BytesIO()
        joblib.dump(analysis.fitted, buffer)
        write_atomically(folder / "predictor.joblib", buffer.getvalue())
        spec["pipeline"] = {
            "file": "predictor.joblib",
            "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        }
    write_json(folder / "predictor.json", spec)
    return folder / "predictor.json"


def predictor_spec(analysis: Analysis) -> dict[str, Any]:
    """Return the content of `predictor.json`: the formula, where it holds, and how far off it may be."""
    metrics, table = analysis.metrics, features_of(analysis.fitted)
    coefficients: Mapping[str, Any] = metrics["coefficients"] or {}
    formulas = table.formulas()
    features = {
        name: {
            **coefficients.get(name, {}),
            **({"formula": formulas[name]} if formulas[name] != name else {}),
        }
        for name in formulas
    }
    return {
        "format": FORMAT,
        "kind": "linear" if coefficients else "pipeline",
        "predicts": TARGET,
        "formula": metrics["formula"],
        "intercept_ms": metrics["intercept_ms"],
        "intercept_per_unit_ms": metrics["intercept_per_unit_ms"],
        "floor_ms": metrics["floor_ms"],
        "features": features,
        "derived": dict(table.derived or {}),
        "inputs": {name: _input(name, analysis.train, table) for name in table.inputs()},
        "regressor": metrics["regressor"],
        "measured": {name: metrics[name] for name in _ABOUT},
        "tested": {name: metrics[name] for name in _ERRORS},
        "calibration": metrics["calibration"],
        "calibration_reason": metrics["calibration_reason"],
    }


def _input(name: str, train: pd.DataFrame, table: FeatureTable) -> dict[str, Any]:
    """Return where an input lay when fitting, and what it is taken to be where nothing is said of it."""
    if not pd.api.types.is_numeric_dtype(train[name]):
        seen = sorted(set(train[name].astype(str)))
        return {"values": seen, "default": seen[0] if len(seen) == 1 else None}
    known = train[name].to_numpy(dtype=np.float64, na_value=np.nan)
    known = known[~np.isnan(known)]
    if not len(known):
        return {"from": None, "to": None, "default": 0.0}
    low, high = float(known.min()), float(known.max())
    column = KNOWN.get(name)
    default: float | dict[str, Any] | None = None
    if low == high:
        default = low
    elif column is not None and column.default:
        default = _formula(column.default, train, table)
    elif column is not None and column.nullable:
        default = table.medians_.get(name)
    return {"from": low, "to": high, "default": default}


def _formula(text: str, train: pd.DataFrame, table: FeatureTable) -> dict[str, Any] | None:
    """Return a default that follows from other inputs and from what was one value; None where it does not."""
    others = [name for name in parse(text).names if name not in table.inputs()]
    constants = {
        name: float(train[name].iloc[0]) for name in others if name in train and train[name].nunique() == 1
    }
    return {"formula": text, "constants": constants} if len(constants) == len(others) else None
