"""The card's picture: how long each step took, by the tokens in its context."""

from collections.abc import Callable
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes

from llmlat.publish.cells import by_cell
from llmlat.records import DECODE, PREFILL, TARGET
from llmlat.report import style
from llmlat.report.plots.axes import (
    broken,
    context_axis,
    fence,
    plain_ticks,
    points,
    sampled,
)
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.steps import one_row_a_step

NAME = "latency"
COLOURS = (style.DECODE, style.RAMP[4], style.FLOOR, style.RAMP[2], style.GUESS)
MARKERS = "os^v"  # not as many as colours, so that pairs of them differ for long
MAX_CELLS = 10
CONTEXT = "padded_context_length"

Part = tuple[str, str, str, pd.DataFrame]
"""A label, a colour, a marker and the steps that are drawn so."""


def draw(rows: pd.DataFrame) -> str:
    """Return a standalone SVG in light colours, the same bytes for the same rows."""
    steps = one_row_a_step(rows[~rows["is_warmup"]])
    # A server does not tell how it pads.
    steps[CONTEXT] = steps[CONTEXT].fillna(steps["context_length"])
    border = fence(steps[TARGET])
    parts = _parts(sampled(steps, steps[TARGET] > border))
    with style.drawing():
        figure = new_figure()
        main, strip = broken(figure, steps[TARGET], border)
        context_axis(main, steps[CONTEXT])
        _draw(main, parts, lambda latency: latency <= border)
        if strip is not None:
            _draw(strip, parts, lambda latency: latency > border)
            strip.set_title("slower steps · log scale", color=style.MUTED, fontsize=7.8)
        main.set_ylabel("time of the step, ms")
        plain_ticks(main, "y")
        finish(figure, [key(colour, label, marker) for label, colour, marker, _ in parts])
        return style.svg(figure, NAME)


def _parts(steps: pd.DataFrame) -> list[Part]:
    """Divide steps: first tokens of all, then the later ones of each cell."""
    parts = [("first token", style.PREFILL, "D", steps[steps["phase"] == PREFILL])]
    looks = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    cells = by_cell(steps[steps["phase"] == DECODE])
    if len(cells) > MAX_CELLS:  # a legend of so many would say nothing
        cells = {"": steps[steps["phase"] == DECODE]}
    for (words, part), (colour, marker) in zip(cells.items(), looks, strict=False):
        parts.append((words or "later tokens", colour, marker, part))
    return [part for part in parts if len(part[3])]


def _draw(axes: Axes, parts: list[Part], is_shown: Callable[[pd.Series], pd.Series]) -> None:
    for _, colour, marker, steps in parts:
        shown = steps[is_shown(steps[TARGET])]
        points(axes, shown[CONTEXT], shown[TARGET], colour, marker)
