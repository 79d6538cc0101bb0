"""The figures of a run: each a pure function of its frames, none of them touching pyplot's global state."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from llmlat.report import style
from llmlat.report.plots import accuracy, arena, bars, drivers, intervals, latency, over_time, trace
from llmlat.report.plots.plot import Plot

__all__ = ["Plot", "draw"]


def draw(metrics: Mapping[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Plot]:
    """Draw what the data allows; a plot that it does not allow says why.

    Parameters
    ----------
    metrics : Mapping
        As docs/metrics.md describes.
    rows : pandas.DataFrame
        Every token row, warm-up included.
    predictions : pandas.DataFrame
        The test rows with `predicted_ms`.
    """
    with style.drawing():
        plots = [
            latency.latency_by_context(metrics, rows, predictions),
            accuracy.predicted_against_measured(predictions),
            accuracy.residuals(predictions),
            bars.coefficients(metrics),
            trace.request_trace(metrics, rows, predictions),
            bars.errors(metrics),
            arena.arena(metrics),
            drivers.along_context(metrics, rows),
            drivers.importance(metrics),
            intervals.coverage(metrics),
            over_time.over_time(rows),
        ]
    return {plot.name: plot for plot in plots}
