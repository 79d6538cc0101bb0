"""Every regressor on the same folds: how far off each is, and what testing on rows at random hides."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from llmlat.report import style
from llmlat.report.arena import grouped_split
from llmlat.report.plots.axes import log_axis, plain_ticks, shown_name
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot

NAME, TITLE = "arena", "Every regressor on the same folds"
WIDE = 8.0  # errors that span more than this ratio are drawn on a log scale


def arena(metrics: Mapping[str, Any]) -> Plot:
    """Draw each regressor's error on rows at random, on what was never seen, and on longer contexts."""
    found = [told for told in metrics.get("arena") or [] if not told["reason"]]
    if not found:
        return Plot(NAME, TITLE, "One regressor was fitted; +experiment=arena sets all beside it.", None)
    grouped = grouped_split(metrics)
    drawn = {
        grouped: ("never seen", style.DECODE, "o"),
        "random": ("rows at random", style.GUESS, "o"),
        "extrapolate": ("longer contexts", style.PREFILL, "D"),
    }
    figure = new_figure(1.2 + 0.24 * len(found))
    axes = figure.add_subplot()
    errors_ms = [
        error_ms
        for split, (_, colour, marker) in drawn.items()
        for error_ms in _points(axes, found, split, colour, marker)
    ]
    keys = [key(colour, label, marker) for label, colour, marker in drawn.values()]
    floor = (metrics.get("noise_floor") or {}).get("mae_ms")
    shown_ms = [*errors_ms, floor] if floor else errors_ms
    _scale(axes, min(shown_ms), max(shown_ms))
    if floor:
        axes.axvline(floor, color=style.FLOOR, linewidth=1.6, zorder=2)
        keys.append(key(style.FLOOR, "noise floor", line=True))
    axes.set_yticks(range(len(found)), [shown_name(told["name"]) for told in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("average miss (MAE), ms")
    axes.tick_params(axis="y", labelcolor=style.INK)
    finish(figure, keys, columns=4)
    return Plot(NAME, TITLE, f"Further left is better.{_gap(found, grouped)}", figure)


def _gap(found: Sequence[Mapping[str, Any]], grouped: str) -> str:
    """Say what the errors on rows at random tell beside those on what was never seen."""
    if grouped == "random":
        return ""
    both = [told["splits"] for told in found if {grouped, "random"} <= told["splits"].keys()]
    is_worse = [splits[grouped]["mae_ms"] > splits["random"]["mae_ms"] for splits in both]
    if 2 * sum(is_worse) > len(is_worse):
        return " The gap from grey to blue is what testing on rows at random hides."
    return " Blue lies left of grey where what was held out happens to be quicker than the rest."


def _points(
    axes: Axes, found: Sequence[Mapping[str, Any]], split: str, colour: str, marker: str
) -> list[float]:
    """Draw each regressor's error under a split, a row each, and return the errors."""
    known = {
        row: told["splits"][split]["mae_ms"] for row, told in enumerate(found) if split in told["splits"]
    }
    axes.plot(
        list(known.values()),
        list(known),
        linestyle="none",
        marker=marker,
        markersize=5.5,
        color=colour,
        markeredgecolor="none",
        zorder=4,
    )
    return list(known.values())


def _scale(axes: Axes, low: float, high: float) -> None:
    if low > 0 and high / low > WIDE:
        log_axis(axes, "x", low / 1.2, high * 1.2)
    else:
        axes.set_xlim(0.0, 1.06 * high)
        plain_ticks(axes, "x")
