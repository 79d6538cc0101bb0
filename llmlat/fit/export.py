"""Writes a fitted pipeline as a predictor that programs load and people read."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.files import write_json
from llmlat.fit.domain import domain_of
from llmlat.fit.features.table import FeatureTable
from llmlat.fit.fitting import features_of
from llmlat.fit.functions import NoFunctionError, function_spec
from llmlat.fit.results import Analysis
from llmlat.formulas.formula import as_column, parse
from llmlat.predict.predictor import FORMAT, load_predictor
from llmlat.records import KNOWN, REQUEST, TARGET

log = logging.getLogger(__name__)

LOCAL = {"trees", "bins", "network"}
"""Functions that say nothing of what lies between the values that were measured."""

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


def write_predictor(folder: Path, analysis: Analysis) -> Path | None:
    """Write `predictor.json` into a run folder, read it back, and return its path.

    Where no function says what the regressor does, there is no file, and a line tells why.

    Raises
    ------
    PredictorError
        Where what was written cannot be read.
    """
    path = folder / "predictor.json"
    try:
        write_json(path, predictor_spec(analysis))
    except NoFunctionError as error:
        path.unlink(missing_ok=True)  # of an earlier run in this folder
        log.warning(
            f"regressor: predictor.json holds no {error}, so none is written; everything else of the run is "
            "there. Lines, trees, networks and llmlat's own regressors can be written."
        )
        return None
    load_predictor(path)
    return path


def predictor_spec(analysis: Analysis) -> dict[str, Any]:
    """Return the content of `predictor.json`: the function, where it holds, and how far off it may be.

    Raises
    ------
    NoFunctionError
        Where there is no function for the regressor.
    """
    metrics, table = analysis.metrics, features_of(analysis.fitted)
    coefficients: Mapping[str, Any] = metrics["coefficients"] or {}
    function = {} if coefficients else {"function": function_spec(Pipeline(analysis.fitted.steps[1:]))}
    features = _features(table, coefficients)
    inputs = {name: _input(name, analysis.train, table) for name in table.inputs()}
    return {
        "format": FORMAT,
        "kind": "linear" if coefficients else "function",
        "predicts": TARGET,
        "formula": metrics["formula"],
        "intercept_ms": metrics["intercept_ms"],
        "intercept_per_unit_ms": metrics["intercept_per_unit_ms"],
        "floor_ms": metrics["floor_ms"],
        "features": features,
        "derived": dict(table.derived or {}),
        "inputs": inputs,
        "regressor": metrics["regressor"],
        "measured": {name: metrics[name] for name in _ABOUT},
        "tested": {name: metrics[name] for name in _ERRORS},
        "calibration": metrics["calibration"],
        "calibration_reason": metrics["calibration_reason"],
        "domain": _domain(analysis, inputs, list(features), is_local=_is_local(function.get("function"))),
        **function,
    }


def _features(table: FeatureTable, coefficients: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the features of a line that can explain something, or all that a function is put together of."""
    fills = {
        name: median for name, median in table.medians_.items() if table.fills or name in table.left_out_
    }
    return {
        name: {
            **coefficients.get(name, {}),
            **({"formula": formula} if formula != as_column(name) else {}),
            **({"missing": fills[name]} if name in fills else {}),
        }
        for name, formula in table.formulas().items()
        if not coefficients or name in coefficients
    }


def _is_local(function: Any) -> bool:
    if isinstance(function, list):
        return any(map(_is_local, function))
    if not isinstance(function, Mapping):
        return False
    return function["kind"] in LOCAL or any(_is_local(function.get(name)) for name in ("of", "parts"))


def _domain(
    analysis: Analysis, inputs: Mapping[str, Any], features: list[str], *, is_local: bool
) -> dict[str, Any]:
    # Where the rows were too many to load, the training rows are made-up ones: those looked at tell.
    rows = analysis.counted if analysis.metrics["large"] else analysis.train
    table: pd.DataFrame = features_of(analysis.fitted).transform(rows)
    group = (analysis.metrics["calibration"] or {}).get("grouped_by", REQUEST)
    return domain_of(rows, inputs, table[features].to_numpy(dtype=np.float64), group, is_local=is_local)


def _input(name: str, train: pd.DataFrame, table: FeatureTable) -> dict[str, Any]:
    """Return where an input lay when fitting, and what it is taken to be where nothing is said of it."""
    if not pd.api.types.is_numeric_dtype(train[name]):
        seen = sorted(set(train[name].astype(object).where(train[name].notna(), "nan").astype(str)))
        return {"values": seen, "default": seen[0] if len(seen) == 1 else None}
    known = train[name].to_numpy(dtype=np.float64, na_value=np.nan)
    is_missing = bool(np.isnan(known).any())
    known = known[~np.isnan(known)]
    if not len(known):
        return {"from": None, "to": None, "default": 0.0, "missing": True}
    low, high = float(known.min()), float(known.max())
    column = KNOWN.get(name)
    default: float | dict[str, Any] | None = None
    if low == high:
        default = low
    elif column is not None and column.default:
        default = _formula(column.default, train, table)
    elif column is not None and column.nullable:
        default = table.medians_.get(name)
    return {"from": low, "to": high, "default": default, **({"missing": True} if is_missing else {})}


def _formula(text: str, train: pd.DataFrame, table: FeatureTable) -> dict[str, Any] | None:
    """Return a default that follows from other inputs and from what was one value; None where it does not."""
    others = [name for name in parse(text).names if name not in table.inputs()]
    constants = {
        name: float(train[name].iloc[0]) for name in others if name in train and train[name].nunique() == 1
    }
    return {"formula": text, "constants": constants} if len(constants) == len(others) else None
