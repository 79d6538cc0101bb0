"""What drives the latency: the prediction along the context, and what each input is worth."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from llmlat.records import DECODE, TARGET
from llmlat.report import style
from llmlat.report.drivers import WAY, cell_names
from llmlat.report.plots.axes import context_axis, plain_ticks, points, shown_name
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import counted

N_BINS = 24
MOST_CURVES = len(style.RAMP)
LONGEST = 34


def along_context(metrics: Mapping[str, Any], rows: pd.DataFrame) -> Plot:
    """Draw the predicted time of a later token along the context, over the medians that were measured."""
    name, title = "along_context", "A later token along the context"
    curves = [curve for curve in metrics.get("along_context") or [] if len(curve["context_length"]) > 1]
    if not curves:
        return Plot(
            name, title, "The prediction does not look at the context, or the rows have one only.", None
        )
    drawn = curves[:MOST_CURVES]
    colours = style.shades(len(drawn))
    figure = new_figure()
    axes = figure.add_subplot()
    decode = rows[(rows["phase"] == DECODE) & ~rows["is_warmup"]]
    for colour, curve in zip(colours, drawn, strict=True):
        same = (decode[list(WAY)] == pd.Series({part: curve[part] for part in WAY})).all(axis=1)
        _measured(axes, decode[same], curve["context_length"], colour)
        axes.plot(curve["context_length"], curve["predicted_ms"], color=colour, linewidth=1.8, zorder=4)
    context_axis(axes, pd.Series([point for curve in drawn for point in curve["context_length"]]))
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("time of a step, ms")
    plain_ticks(axes, "y")
    names = cell_names(drawn)
    keys = [key(colour, name, line=True) for colour, name in zip(colours, names, strict=True)]
    finish(figure, keys, columns=1)
    more = (
        f" {counted(len(curves) - len(drawn), 'more curve')} not drawn." if len(curves) > len(drawn) else ""
    )
    caption = (
        "The line is what is predicted where every step's context is set to that length; the points are the "
        f"medians that were measured around it.{more}"
    )
    return Plot(name, title, caption, figure)


def _measured(axes: Axes, rows: pd.DataFrame, context: list[int], colour: str) -> None:
    inside = rows[rows["context_length"].between(context[0], context[-1])]
    if inside.empty:
        return
    bins = pd.cut(inside["context_length"], min(N_BINS, len(context)))
    medians = inside.groupby(bins, observed=True)[["context_length", TARGET]].median()
    points(axes, medians["context_length"], medians[TARGET], colour, size=4.0)


def importance(metrics: Mapping[str, Any]) -> Plot:
    """Draw how much worse the prediction gets when an input is shuffled."""
    name, title = "importance", "What the prediction rests on"
    found = metrics.get("importance")
    if not found:
        return Plot(name, title, "It takes requests that can be held out.", None)
    ranked = sorted(found.items(), key=lambda item: -item[1]["mae_ms_more"])
    figure = new_figure(1.1 + 0.32 * len(ranked))
    axes = figure.add_subplot()
    for place, (_, worth) in enumerate(ranked):
        axes.plot(
            [worth["low_ms"], worth["high_ms"]], [place, place], color=style.DECODE, linewidth=2.4, zorder=3
        )
    axes.plot(
        [worth["mae_ms_more"] for _, worth in ranked],
        range(len(ranked)),
        linestyle="none",
        marker="o",
        markersize=6.0,
        color=style.DECODE,
        zorder=4,
    )
    axes.axvline(0.0, color=style.LINE, linewidth=1.0, zorder=2)
    axes.set_yticks(range(len(ranked)), [shown_name(group, LONGEST) for group, _ in ranked])
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.set_xlabel("average miss (MAE) grows by, ms, when it is shuffled")
    axes.tick_params(axis="y", labelcolor=style.INK)
    axes.grid(visible=False, axis="y")
    plain_ticks(axes, "x", most=5)
    finish(figure)
    caption = (
        "On requests that the fit never saw: each point is the mean of ten shuffles, the line their range. "
        "Inputs that say the same thing are shuffled together. At 0 it would be as good without."
    )
    return Plot(name, title, caption, figure)
