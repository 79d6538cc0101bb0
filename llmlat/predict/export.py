"""Writes a fitted pipeline as a predictor that programs load and people read."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib

from llmlat.dataset import write_atomically, write_json
from llmlat.predict.predictor import FORMAT
from llmlat.predict.results import Analysis

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
    """Return the content of `predictor.json`: the formula, where it holds, and how well it did."""
    metrics = analysis.metrics
    coefficients: Mapping[str, Any] = metrics["coefficients"] or {}
    features = {
        name: {
            **coefficients.get(name, {}),
            "fitted_from": float(analysis.train[name].min()),
            "fitted_to": float(analysis.train[name].max()),
        }
        for name in metrics["features"]
    }
    return {
        "format": FORMAT,
        "kind": "linear" if coefficients else "pipeline",
        "predicts": "token_latency_ms",
        "formula": metrics["formula"],
        "intercept_ms": metrics["intercept_ms"],
        "intercept_per_unit_ms": metrics["intercept_per_unit_ms"],
        "features": features,
        "regressor": metrics["regressor"],
        "measured": {name: metrics[name] for name in _ABOUT},
        "tested": {name: metrics[name] for name in _ERRORS},
    }
