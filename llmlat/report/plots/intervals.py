"""Whether a 90 % interval holds 90 %."""

from collections.abc import Mapping
from typing import Any

from llmlat.report import style, wording
from llmlat.report.intervals import spelled_level
from llmlat.report.plots.axes import plain_ticks
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import DASH, count, is_number

NAME, TITLE = "coverage", "Does the interval hold what it says?"


def coverage(metrics: Mapping[str, Any]) -> Plot:
    """Draw how many tokens of requests never seen an interval held, and how wide it was."""
    found = metrics.get("coverage")
    if not found:
        return Plot(NAME, TITLE, "It takes requests that can be held out.", None)
    if not is_number(found["median_relative_width"]):
        level = spelled_level(found["level"])
        infinite = f"Too few requests were measured for an interval of {level}: it is infinite."
        return Plot(NAME, TITLE, infinite, None)
    parts = [("all", found), *((wording.PHASES.get(k, k), v) for k, v in found["by_phase"].items())]
    parts += [(f"at {count(p['from'])}{DASH}{count(p['to'])}", p) for p in found["by_context"]]
    figure = new_figure(1.2 + 0.34 * len(parts))
    grid = figure.add_gridspec(1, 2)
    held, wide = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    places = range(len(parts))
    held.plot(
        [100 * part["coverage"] for _, part in parts],
        places,
        linestyle="none",
        marker="o",
        markersize=6.0,
        color=style.DECODE,
        zorder=4,
    )
    held.axvline(100 * found["level"], color=style.FLOOR, linewidth=1.6, zorder=2)
    held.set_xlim(min(50.0, *(100 * part["coverage"] - 4 for _, part in parts)), 102.0)
    held.set_xlabel("of their tokens held, %")
    held.set_yticks(places, [name for name, _ in parts])
    known = [
        (place, 100 * part["median_relative_width"])
        for place, (_, part) in enumerate(parts)
        if is_number(part["median_relative_width"])
    ]
    wide.barh([p for p, _ in known], [w for _, w in known], height=0.5, color=style.DECODE, zorder=3)
    wide.set_xlabel("width, % of the prediction")
    wide.tick_params(labelleft=False)
    for axes in (held, wide):
        axes.set_ylim(len(parts) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=style.INK)
        plain_ticks(axes, "x", most=4)
    finish(figure, [key(style.FLOOR, f"asked for: {spelled_level(found['level'])}", line=True)])
    caption = (
        f"On {count(found['n_groups'])} requests that had no part in fitting or calibrating. Left: the share "
        "of their tokens inside the interval. Right: how wide it is."
    )
    return Plot(NAME, TITLE, caption, figure)
