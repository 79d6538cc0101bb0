"""Every regressor on the same folds: how far off each is, and what testing on rows at random hides."""

from collections.abc import Mapping
from typing import Any

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
    values = []
    for name, (_, colour, marker) in drawn.items():
        known = [
            (place, told["splits"][name]["mae_ms"])
            for place, told in enumerate(found)
            if name in told["splits"]
        ]
        values += [value for _, value in known]
        axes.plot(
            [value for _, value in known],
            [place for place, _ in known],
            linestyle="none",
            marker=marker,
            markersize=5.5,
            color=colour,
            markeredgecolor="none",
            zorder=4,
        )
    low, high = min(values), max(values)
    if low > 0 and high / low > WIDE:
        log_axis(axes, "x", low / 1.2, high * 1.2)
    else:
        axes.set_xlim(0.0, 1.06 * high)
        plain_ticks(axes, "x")
    floor = (metrics.get("noise_floor") or {}).get("mae_ms")
    keys = [key(colour, label, marker) for label, colour, marker in drawn.values()]
    if floor:
        axes.axvline(floor, color=style.FLOOR, linewidth=1.6, zorder=2)
        keys.append(key(style.FLOOR, "noise floor", line=True))
    axes.set_yticks(range(len(found)), [shown_name(told["name"]) for told in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("average miss (MAE), ms")
    axes.tick_params(axis="y", labelcolor=style.INK)
    finish(figure, keys, columns=4)
    hides = (
        "" if grouped == "random" else " The gap from grey to blue is what testing on rows at random hides."
    )
    caption = f"Further left is better.{hides}"
    return Plot(NAME, TITLE, caption, figure)
