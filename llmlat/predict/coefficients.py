"""A linear predictor as a formula: on scaled features, as the thesis writes it, and in ms per token."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from llmlat.predict.fit import feature_columns


def coefficient_table(fitted: Pipeline) -> dict[str, Any]:
    """Return the coefficients of a fitted pipeline.

    Parameters
    ----------
    fitted : Pipeline
        From `llmlat.predict.fit.fit`.

    Returns
    -------
    dict
        `coefficients` (for each feature `scaled_ms`, `per_unit_ms`, `relative_impact`, `mean`, `scale`),
        `intercept_ms` (on scaled features) and `intercept_per_unit_ms` (on raw ones). All None where the
        prediction is not this formula.
    """
    formula_of = _linear_formula(fitted)
    if formula_of is None:
        return {"coefficients": None, "intercept_ms": None, "intercept_per_unit_ms": None}
    scaled, intercept, mean, scale = formula_of
    per_unit = scaled / scale
    total = float(np.abs(scaled).sum())
    coefficients = {
        name: {
            "scaled_ms": float(scaled[k]),
            "per_unit_ms": float(per_unit[k]),
            "relative_impact": float(abs(scaled[k]) / total) if total else 0.0,
            "mean": float(mean[k]),
            "scale": float(scale[k]),
        }
        for k, name in enumerate(feature_columns(fitted))
    }
    return {
        "coefficients": coefficients,
        "intercept_ms": intercept,
        "intercept_per_unit_ms": intercept - float(per_unit @ mean),
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
    return {
        "scaled": f"latency_ms = {table['intercept_ms']:.4f} {scaled}",
        "per_unit": f"latency_ms = {table['intercept_per_unit_ms']:.4f} {per_unit}",
    }


def _signed(value: float) -> str:
    # Significant digits, since a slope a token can be a ten-thousandth of a millisecond.
    return f"{'-' if value < 0 else '+'} {abs(value):.5g}"


def _linear_formula(fitted: Pipeline) -> tuple[Any, float, Any, Any] | None:
    """Return scaled weights, intercept, means and scales; None where the prediction is not what they say.

    Having `coef_` does not make a regressor linear in its features (a Poisson regressor has a logarithm
    between), so the formula is tried on points around the training rows.
    """
    regressor, scaler = (
        fitted.named_steps["regressor"],
        fitted.named_steps["features"].named_transformers_["scaled"],
    )
    coef = np.asarray(getattr(regressor, "coef_", np.nan), dtype=np.float64)
    intercept = np.asarray(getattr(regressor, "intercept_", np.nan), dtype=np.float64)
    if coef.size != len(scaler.mean_) or intercept.size != 1:
        return None
    scaled, constant = coef.reshape(-1), float(intercept.reshape(-1)[0])
    points = np.vstack([np.zeros_like(scaled), np.eye(len(scaled)), -2.0 * np.eye(len(scaled))])
    if not np.allclose(regressor.predict(points), points @ scaled + constant, rtol=1e-9, atol=1e-9):
        return None
    return scaled, constant, scaler.mean_, scaler.scale_
