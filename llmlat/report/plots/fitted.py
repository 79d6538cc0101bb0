"""What the fit predicts for rows that it was not tested on, read from its numbers alone."""

from collections.abc import Mapping
from typing import Any

import pandas as pd


def fitted(metrics: Mapping[str, Any], rows: pd.DataFrame) -> pd.Series | None:
    """Return the prediction of a linear fit for each row; None where the metrics do not hold the formula."""
    coefficients, intercept = metrics.get("coefficients"), metrics.get("intercept_per_unit_ms")
    if not coefficients or intercept is None or any(name not in rows.columns for name in coefficients):
        return None
    if any(not pd.api.types.is_numeric_dtype(rows[name]) for name in coefficients):
        return None
    total = pd.Series(float(intercept), index=rows.index)
    for name, values in coefficients.items():
        total = total + float(values["per_unit_ms"]) * rows[name].astype("float64")
    return total.clip(lower=metrics.get("floor_ms"))


def with_predictions(
    metrics: Mapping[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[pd.DataFrame, bool]:
    """Return the rows that have a prediction, with it, and whether these are all rows or test rows only."""
    everywhere = fitted(metrics, rows)
    if everywhere is None:
        return predictions, False
    return rows.assign(predicted_ms=everywhere), True
