"""Axes that survive an outlier, and the points on them."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from llmlat.report import style
from llmlat.report.wording import MINUS, number

MANY = 1_200  # above so many points a layer is a picture inside the SVG, not a shape each
WIDE = 60  # contexts that span more than this ratio are drawn on a log scale
CAP = 40_000  # above so many points a layer is sampled, and says so


def fence(values: pd.Series) -> float:
    """Return the value above which a row is drawn apart from the bulk; the largest where none is needed.

    Quartiles do not move for a few slow rows, so one of them cannot flatten the rest.
    """
    largest = float(values.max())
    low, middle, high = (float(values.quantile(q)) for q in (0.25, 0.5, 0.75))
    bulk = high + 6.0 * max(high - low, 0.04 * abs(middle))
    return bulk if largest > 1.3 * bulk else largest


def broken(figure: Figure, values: pd.Series, border: float) -> tuple[Axes, Axes | None]:
    """Return axes for the rows up to the border, and a log strip above for slower rows where there are."""
    bulk, slow = values[values <= border], values[values > border]
    low, high = float(bulk.min()), float(bulk.max())
    margin = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
    if slow.empty:
        axes = figure.add_subplot()
        axes.set_ylim(low - margin, high + margin)
        return axes, None
    grid = figure.add_gridspec(2, 1, height_ratios=(1.0, 2.6))
    main = figure.add_subplot(grid[1])
    strip = figure.add_subplot(grid[0], sharex=main)
    main.set_ylim(low - margin, high + margin)
    strip.set_facecolor(style.STRIP)
    strip.tick_params(labelbottom=False)
    log_axis(strip, "y", float(slow.min()) / 1.3, float(slow.max()) * 1.3, ticks=4)
    return main, strip


def log_axis(axes: Axes, which: str, low: float, high: float, ticks: int = 6) -> None:
    """Give an axis a log scale with few, plainly spelled ticks."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(log_ticks(low, high, ticks)))
    axis.set_minor_locator(NullLocator())
    plain_ticks(axes, which)


def context_axis(axes: Axes, contexts: pd.Series) -> None:
    """Set the x axis to contexts, on a log scale where they span much."""
    axes.set_xlabel("tokens in the context")
    low, high = int(contexts.min()), int(contexts.max())
    if low > 0 and high / low > WIDE:
        log_axis(axes, "x", low * 0.85, high * 1.15)
        return
    margin = 0.03 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)
    plain_ticks(axes, "x")


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers from `low` to `high`: decades, with steps between where few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        inside = [tick for tick in ticks if low * 1.02 <= tick <= high]
        if len(inside) <= most:
            break
    if len(inside) < 2:
        inside = [float(tick) for tick in MaxNLocator(3).tick_values(low, high) if low <= tick <= high]
    return inside[:: math.ceil(len(inside) / most)]


def plain_ticks(axes: Axes, which: str, most: int = 6) -> None:
    """Spell ticks as the text does: thousands separated, a true minus, no exponents; few where none are set.

    Parameters
    ----------
    axes : Axes
    which : str
        x or y.
    most : int
        At most so many steps between ticks, which matplotlib would choose.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    if isinstance(axis.get_major_locator(), AutoLocator):
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    return (
        number(round(value), max(3, len(str(abs(round(value))))))
        if abs(value) >= 100
        else f"{value:g}".replace("-", MINUS)
    )


def sampled(frame: pd.DataFrame, keep: pd.Series) -> pd.DataFrame:
    """Return at most `CAP` rows, the same ones each time, with every row of `keep` among them."""
    if len(frame) <= CAP:
        return frame
    rest = np.flatnonzero(~keep.to_numpy())
    free = max(0, CAP - int(keep.sum()))
    chosen = np.random.default_rng(0).choice(rest, size=min(free, len(rest)), replace=False)
    return frame.iloc[np.sort(np.concatenate([np.flatnonzero(keep.to_numpy()), chosen]))]


def points(axes: Axes, x: pd.Series, y: pd.Series, colour: str, marker: str = "o", size: float = 3.2) -> None:
    """Draw points without joining them; many of them as one picture."""
    if x.empty:
        return
    many = len(x) > MANY
    axes.plot(
        x.to_numpy(),
        y.to_numpy(),
        linestyle="none",
        marker=marker,
        markersize=size * (0.7 if many else 1.0),
        markerfacecolor=colour,
        markeredgecolor="none" if many else style.PAPER,
        markeredgewidth=0.0 if many else 0.35,
        alpha=0.45 if many else 0.9,
        rasterized=many,
        zorder=3,
    )


def shown_name(name: object, most: int = 28) -> str:
    """Return a name as a figure can show it: the font's own letters, and at most so many."""
    text = "".join(letter if letter.isprintable() and ord(letter) < 0x250 else "?" for letter in str(name))
    return text if len(text) <= most else f"{text[: most - 1]}…"
