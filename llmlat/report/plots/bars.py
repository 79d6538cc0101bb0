"""Bars: what each input adds, and the error beside simple guesses."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from llmlat.report import style, wording
from llmlat.report.plots.axes import key, legend, new_figure, plain_ticks
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import is_number, ms, number, signed


def coefficients(metrics: Mapping[str, Any]) -> Plot:
    """Draw the scaled coefficients, with the published ones beside ours where there are any."""
    name, title = "coefficients", "What each input adds"
    ours = metrics.get("coefficients")
    if not ours:
        regressor = metrics["regressor"]["name"]
        reason = f"A fit by {regressor} has no coefficients to draw: it is not a sum of its inputs."
        return Plot(name, title, reason, None)
    theirs = (metrics.get("reference") or {}).get("coefficients") or {}
    names = [*ours, *(each for each in theirs if each not in ours)]
    figure = new_figure(max(2.2, 0.9 + 0.62 * len(names)))
    axes = figure.add_subplot()
    shift = 0.19 if theirs else 0.0
    _bars(
        axes,
        [i - shift for i in range(len(names))],
        [ours.get(n, {}).get("scaled_ms") for n in names],
        style.DECODE,
    )
    if theirs:
        _bars(axes, [i + shift for i in range(len(names))], [theirs.get(n) for n in names], style.THEIRS)
        legend(figure, [key(style.DECODE, "ours", "s"), key(style.THEIRS, "the thesis", "s")])
    axes.axvline(0.0, color=style.LINE, linewidth=1.0, zorder=4)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel("ms for one standard deviation of the input")
    _finish(axes)
    caption = (
        "Each bar is one scaled coefficient. Inputs that move together share their effect: read them as a "
        "pair, not one by one."
    )
    return Plot(name, title, caption, figure)


def _bars(axes: Axes, places: Sequence[float], values: Sequence[Any], colour: str) -> None:
    known = [(place, float(value)) for place, value in zip(places, values, strict=True) if is_number(value)]
    axes.barh([p for p, _ in known], [v for _, v in known], height=0.34, color=colour, zorder=3)
    for place, value in known:
        _spell(axes, signed(value), value, place)


def _spell(axes: Axes, text: str, value: float, place: float) -> None:
    """Write a bar's value beyond its end, legible over a line that crosses it."""
    axes.annotate(
        text,
        (value, place),
        xytext=(-4 if value < 0 else 4, 0),
        textcoords="offset points",
        va="center",
        ha="right" if value < 0 else "left",
        fontsize=8.0,
        zorder=6,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.8},
    )


def _finish(axes: Axes) -> None:
    axes.margins(x=0.22)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.spines["left"].set_visible(False)
    plain_ticks(axes, "x")


def errors(metrics: Mapping[str, Any]) -> Plot:
    """Draw the error of the fit beside those of simple guesses, and the noise floor under them."""
    floor = metrics.get("noise_floor")
    bars = [("this fit", metrics, style.DECODE)]
    bars += [(wording.BASELINES.get(k, k), v, style.GUESS) for k, v in metrics["baselines"].items() if v]
    figure = new_figure(1.3 + 0.4 * len(bars))
    grid = figure.add_gridspec(1, 2, wspace=0.06)
    for column, (field, label) in enumerate((("mae_ms", "average miss (MAE), ms"), ("rmse_ms", "RMSE, ms"))):
        axes = figure.add_subplot(grid[column])
        _error_bars(axes, [(block.get(field), colour) for _, block, colour in bars])
        axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
        axes.tick_params(labelleft=column == 0)
        axes.set_xlabel(label)
        if floor and is_number(floor.get(field)):
            axes.axvline(floor[field], color=style.FLOOR, linewidth=1.6, zorder=5)
    if floor:
        legend(
            figure,
            [key(style.FLOOR, f"noise floor, {ms(floor['mae_ms'])} and {ms(floor['rmse_ms'])}", line=True)],
        )
    return Plot("errors", "The error beside simple guesses", _error_caption(metrics), figure)


def _error_bars(axes: Axes, bars: Sequence[tuple[Any, str]]) -> None:
    for place, (value, colour) in enumerate(bars):
        if is_number(value):
            axes.barh(place, value, height=0.6, color=colour, zorder=3)
            _spell(axes, number(value), value, place)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    _finish(axes)
    axes.set_xlim(left=0.0)


def _error_caption(metrics: Mapping[str, Any]) -> str:
    start = "Shorter is better; all on the same test tokens."
    if metrics.get("noise_floor"):
        return (
            f"{start} The line is how much equal steps differ anyway: "
            "no predictor that sees only these inputs gets reliably below it."
        )
    reason = metrics.get("noise_floor_reason") or "the rows allow none"
    return f"{start} There is no noise floor: {wording.sentence(reason)}"
