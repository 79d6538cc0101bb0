"""How near the predictions came: predicted against measured, and what was left over."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from llmlat.records import TARGET
from llmlat.report import style
from llmlat.report.plots.axes import (
    CAP,
    context_axis,
    log_axis,
    plain_ticks,
    points,
    sampled,
)
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import count, counted, ms

SPREAD = 6.0  # a largest value so many times the typical one calls for a log scale
PHASES = {"decode": ("later token", "o", 3.2), "prefill": ("first token", "D", 4.4)}


def predicted_against_measured(predictions: pd.DataFrame) -> Plot:
    """Draw each test token's predicted time over its measured time, with the line of a perfect prediction."""
    name, title = "predicted_against_measured", "Predicted beside measured"
    if predictions.empty:
        return Plot(name, title, "There are no test rows.", None)
    frame = sampled(predictions, _far(predictions[TARGET]))
    figure = new_figure()
    present = [phase for phase in PHASES if (frame["phase"] == phase).any()]
    grid = figure.add_gridspec(1, len(present))
    remarks = []
    for place, phase in enumerate(present):
        axes = figure.add_subplot(grid[place])
        remarks += _compare(axes, frame[frame["phase"] == phase], phase)
        axes.set_xlabel("measured, ms")
        if place == 0:
            axes.set_ylabel("predicted, ms")
    finish(figure, [*_keys(frame), key(style.LINE, "a perfect prediction", line=True)])
    start = "Each point is a test token: above the line the prediction was too long, below it too short."
    return Plot(name, title, " ".join([start, *remarks, *_cap_words(predictions)]), figure)


def _compare(axes: Axes, frame: pd.DataFrame, phase: str) -> list[str]:
    """Draw one phase on equal scales, logarithmic where the times span too much; return what to say of it."""
    both = pd.concat([frame[TARGET], frame["predicted_ms"]])
    wide = float(both.max()) > SPREAD * float(frame[TARGET].median())
    low, high = _limits(both, wide)
    for which in ("x", "y"):
        if wide:
            log_axis(axes, which, low, high, ticks=4)
        else:
            plain_ticks(axes, which, most=4)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.plot([low, high], [low, high], color=style.LINE, linewidth=1.1, zorder=2)
    name, marker, size = PHASES[phase]
    points(
        axes, frame[TARGET], frame["predicted_ms"].clip(lower=low), style.PHASE_COLOURS[phase], marker, size
    )
    axes.set_title(f"{counted(len(frame), name)}{', log scales' if wide else ''}", color=style.MUTED)
    below = int((frame["predicted_ms"] < low).sum())
    return [f"{counted(below, 'prediction')} of zero or less on the lower edge."] if below else []


def _limits(both: pd.Series, wide: bool) -> tuple[float, float]:
    if wide:
        positive = both[both > 0]
        return float(positive.min()) / 1.25, float(positive.max()) * 1.25
    low, high = float(both.min()), float(both.max())
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def residuals(predictions: pd.DataFrame) -> Plot:
    """Draw what the prediction left over: against context, and how often."""
    name, title = "residuals", "What the prediction missed"
    if predictions.empty:
        return Plot(name, title, "There are no test rows.", None)
    left = predictions.assign(residual_ms=predictions[TARGET] - predictions["predicted_ms"])
    frame = sampled(left, _far(left["residual_ms"].abs()))
    figure = new_figure()
    grid = figure.add_gridspec(1, 2, width_ratios=(3.0, 1.0))
    axes = figure.add_subplot(grid[0])
    side = figure.add_subplot(grid[1], sharey=axes)
    threshold = _scale(axes, left["residual_ms"])
    for each in (axes, side):
        each.axhline(0.0, color=style.LINE, linewidth=1.0, zorder=2)
    _by_phase(axes, frame, "context_length", "residual_ms")
    _histogram(side, left, threshold)
    context_axis(axes, left["context_length"])
    axes.set_ylabel("measured less predicted, ms")
    finish(figure, _keys(frame))
    return Plot(name, title, _residual_caption(left, threshold), figure)


def _scale(axes: Axes, residual: pd.Series) -> float | None:
    """Set the y axis; return where it turns logarithmic, or None where it stays linear."""
    size = residual.abs()
    largest, typical = float(size.max()), 2.5 * float(size.quantile(0.75))
    low, high = min(0.0, float(residual.min())), max(0.0, float(residual.max()))
    threshold = _round_up(typical) if typical > 0 and largest > SPREAD * typical else None
    if threshold is None:
        margin = 0.08 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
    else:
        low, high = min(1.4 * low, -1.1 * threshold), max(1.4 * high, 1.1 * threshold)
        axes.set_yscale("symlog", linthresh=threshold, linscale=1.4)
        axes.set_yticks([tick for tick in _symmetric_ticks(threshold, largest) if low <= tick <= high])
        axes.set_yticks([], minor=True)
        axes.set_ylim(low, high)
    plain_ticks(axes, "y")
    return threshold


def _round_up(value: float) -> float:
    step = 10.0 ** math.floor(math.log10(value))
    return next(factor * step for factor in (1.0, 2.0, 5.0, 10.0) if factor * step >= value)


def _symmetric_ticks(threshold: float, largest: float) -> list[float]:
    decades = range(math.ceil(math.log10(threshold * 2.5)), math.ceil(math.log10(largest)) + 1)
    one_side = [threshold / 2.0, threshold, *(10.0**decade for decade in decades)]
    return [*(-tick for tick in reversed(one_side)), 0.0, *one_side]


def _histogram(axes: Axes, left: pd.DataFrame, threshold: float | None) -> None:
    """Count rows in bins that are even on the axis as drawn."""
    low, high = axes.get_ylim()
    transform = axes.yaxis.get_transform()
    ends = transform.transform(np.array([low, high]))
    edges = transform.inverted().transform(np.linspace(ends[0], ends[1], 41))
    below = np.zeros(len(edges) - 1)
    for phase in PHASES:
        n, _ = np.histogram(left.loc[left["phase"] == phase, "residual_ms"], edges)
        colour = style.PHASE_COLOURS[phase]
        # A shape each, where a histogram would be a rectangle for each bin.
        axes.stairs(
            below + n, edges, baseline=below, orientation="horizontal", fill=True, color=colour, zorder=3
        )
        below = below + n
    axes.set_xlim(0.0, 1.05 * float(below.max()))
    axes.set_xlabel("test tokens")
    axes.tick_params(labelleft=False)
    axes.xaxis.set_major_locator(_few())
    plain_ticks(axes, "x")


def _few() -> MaxNLocator:
    return MaxNLocator(nbins=3, integer=True)


def _residual_caption(left: pd.DataFrame, threshold: float | None) -> str:
    parts = [
        "Above zero the token took longer than predicted. At the right, how many tokens missed by how much."
    ]
    if threshold is not None:
        beyond = int((left["residual_ms"].abs() > threshold).sum())
        worst = ms(left["residual_ms"].abs().max())
        parts.append(
            f"The scale turns logarithmic beyond ±{ms(threshold)}, where {count(beyond)} of"
            f" {count(len(left))} lie (the worst {worst} off)."
        )
    return " ".join([*parts, *_cap_words(left)])


def _far(values: pd.Series) -> pd.Series:
    return values > values.quantile(0.99)


def _by_phase(axes: Axes, frame: pd.DataFrame, x: str, y: str) -> None:
    for phase, (_, marker, size) in PHASES.items():
        part = frame[frame["phase"] == phase]
        points(axes, part[x], part[y], style.PHASE_COLOURS[phase], marker, size)


def _keys(frame: pd.DataFrame) -> list[Line2D]:
    present = [phase for phase in PHASES if (frame["phase"] == phase).any()]
    return [key(style.PHASE_COLOURS[phase], PHASES[phase][0], PHASES[phase][1]) for phase in present]


def _cap_words(rows: pd.DataFrame) -> list[str]:
    return (
        [f"{count(CAP)} of {count(len(rows))} rows are drawn, the farthest among them."]
        if len(rows) > CAP
        else []
    )
