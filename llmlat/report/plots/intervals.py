"""Whether a 90 % interval holds 90 %."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from llmlat.report import style, wording
from llmlat.report.intervals import spelled_level, unit_of
from llmlat.report.plots.axes import plain_ticks
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import DASH, count, counted, is_number

NAME, TITLE = "coverage", "Does the interval hold what it says?"

Parts = Sequence[tuple[str, Mapping[str, Any]]]
"""Names of some rows, and how the interval did on them."""


def coverage(metrics: Mapping[str, Any]) -> Plot:
    """Draw how many tokens of requests never seen an interval held, and how wide it was."""
    found = metrics.get("coverage")
    if not found:
        return Plot(NAME, TITLE, "It takes requests that can be held out.", None)
    if not is_number(found["median_relative_width"]):
        level = spelled_level(found["level"])
        infinite = f"Too few {unit_of(metrics)}s were measured for an interval of {level}: it is infinite."
        return Plot(NAME, TITLE, infinite, None)
    parts = [("all", found), *((wording.PHASES.get(k, k), v) for k, v in found["by_phase"].items())]
    parts += [(f"at {count(p['from'])}{DASH}{count(p['to'])}", p) for p in found["by_context"]]
    figure = new_figure(1.2 + 0.34 * len(parts))
    grid = figure.add_gridspec(1, 2)
    held, wide = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _draw_held(held, parts, found["level"])
    _draw_widths(wide, parts)
    for axes in (held, wide):
        axes.set_ylim(len(parts) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=style.INK)
        plain_ticks(axes, "x", most=4)
    finish(figure, [key(style.FLOOR, f"asked for: {spelled_level(found['level'])}", line=True)])
    caption = (
        f"On {counted(found['n_groups'], unit_of(metrics))} that had no part in fitting or calibrating. "
        "Left: the share of their tokens inside the interval. Right: how wide it is."
    )
    return Plot(NAME, TITLE, caption, figure)


def _draw_held(axes: Axes, parts: Parts, level: float) -> None:
    shares = [100 * part["coverage"] for _, part in parts]
    places = range(len(parts))
    axes.plot(shares, places, linestyle="none", marker="o", markersize=6.0, color=style.DECODE, zorder=4)
    axes.axvline(100 * level, color=style.FLOOR, linewidth=1.6, zorder=2)
    axes.set_xlim(min(50.0, *(share - 4 for share in shares)), 102.0)
    axes.set_xlabel("of their tokens held, %")
    axes.set_yticks(places, [name for name, _ in parts])


def _draw_widths(axes: Axes, parts: Parts) -> None:
    widths = [part["median_relative_width"] for _, part in parts]
    known = {place: 100 * width for place, width in enumerate(widths) if is_number(width)}
    axes.barh(list(known), list(known.values()), height=0.5, color=style.DECODE, zorder=3)
    axes.set_xlabel("width, % of the prediction")
    axes.tick_params(labelleft=False)
