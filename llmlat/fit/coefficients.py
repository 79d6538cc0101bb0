"""A linear predictor as a formula: on scaled features, as the thesis writes it, and in ms per token."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.fit.features.table import InTheirUnits
from llmlat.fit.fitting import features_of


def coefficient_table(fitted: Pipeline) -> dict[str, Any]:
    """Return the coefficients of a fitted pipeline.

    Parameters
    ----------
    fitted : Pipeline
        From `llmlat.fit.fitting.fit`.

    Returns
    -------
    dict
        `coefficients` (for each feature `scaled_ms`, `per_unit_ms`, `relative_impact`, `mean`, `scale`),
        `intercept_ms` (on scaled features), `intercept_per_unit_ms` (on raw ones) and `floor_ms` (what the
        prediction does not fall below; None where it may). All None where the prediction is not this formula.
    """
    formula_of = _linear_formula(fitted)
    if formula_of is None:
        return dict.fromkeys(("coefficients", "intercept_ms", "intercept_per_unit_ms", "floor_ms"))
    per_unit, raw_intercept, floor_ms = formula_of
    scaler, table = fitted.named_steps["scaled"], features_of(fitted)
    mean, scale = scaler.mean_, scaler.scale_
    scaled = per_unit * scale
    total = float(np.abs(scaled).sum())
    coefficients = {
        name: {
            "scaled_ms": float(scaled[k]),
            "per_unit_ms": float(per_unit[k]),
            "relative_impact": float(abs(scaled[k]) / total) if total else 0.0,
            "mean": float(mean[k]),
            "scale": float(scale[k]),
        }
        for k, name in enumerate(table.feature_names_out_)
        if table.telling_[k]
    }
    return {
        "coefficients": coefficients,
        "intercept_ms": raw_intercept + float(per_unit @ mean),
        "intercept_per_unit_ms": raw_intercept,
        "floor_ms": floor_ms,
    }


def formula(fitted: Pipeline) -> dict[str, str] | None:
    """Return the formula with its numbers in it: `scaled` and `per_unit`; None where it is not linear."""
    return spelled_formula(coefficient_table(fitted))


def spelled_formula(table: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the formula of a `coefficient_table`, as `formula` does."""
    if table["coefficients"] is None:
        return None
    terms = table["coefficients"].items()
    scaled = " ".join(f"{_signed(entry['scaled_ms'])} × {name}_scaled" for name, entry in terms)
    per_unit = " ".join(f"{_signed(entry['per_unit_ms'])} × {name}" for name, entry in terms)
    if table["floor_ms"]:
        sum_of = f"{table['intercept_per_unit_ms']:.4f} {per_unit}"
        return {"per_unit": f"latency_ms = max({table['floor_ms']:.4f}, {sum_of})"}
    return {
        "scaled": f"latency_ms = {table['intercept_ms']:.4f} {scaled}",
        "per_unit": f"latency_ms = {table['intercept_per_unit_ms']:.4f} {per_unit}",
    }


def _signed(value: float) -> str:
    # Significant digits, since a slope a token can be a ten-thousandth of a millisecond.
    return f"{'-' if value < 0 else '+'} {abs(value):.5g}"


def _linear_formula(fitted: Pipeline) -> tuple[Any, float, float | None] | None:
    """Return weights and intercept on raw features, and the floor; None where the prediction is another.

    Having `coef_` does not make a regressor linear in its features (a Poisson regressor has a logarithm
    between), so the formula is tried on points around the training rows.
    """
    regressor, scaler = fitted.named_steps["regressor"], fitted.named_steps["scaled"]
    coef = np.asarray(getattr(regressor, "coef_", np.nan), dtype=np.float64)
    overhead_ms = getattr(regressor, "overhead_ms_", np.nan)  # what physics calls its intercept
    intercept = np.asarray(getattr(regressor, "intercept_", overhead_ms), dtype=np.float64)
    if coef.size != len(scaler.mean_) or intercept.size != 1:
        return None
    weights, constant = coef.reshape(-1), float(intercept.reshape(-1)[0])
    floor_ms = getattr(regressor, "floor_ms_", None) or None
    points = np.vstack([np.zeros_like(weights), np.eye(len(weights)), -2.0 * np.eye(len(weights))])
    in_units = isinstance(scaler, InTheirUnits)
    if in_units:
        points = np.abs(points) * scaler.mean_
    told = points @ weights + constant
    told = told if floor_ms is None else np.maximum(told, floor_ms)
    if not np.allclose(_predict(regressor, points), told, rtol=1e-9, atol=1e-9):
        return None
    if not in_units:
        weights = weights / scaler.scale_
        constant -= float(weights @ scaler.mean_)
    return weights, constant, floor_ms


def _predict(regressor: Any, points: Any) -> Any:
    names = getattr(regressor, "feature_names_in_", None)
    return regressor.predict(points if names is None else pd.DataFrame(points, columns=names))
