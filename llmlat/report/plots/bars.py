"""Bars: what each input adds, and the error beside simple guesses."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from llmlat.report import style, wording
from llmlat.report.plots.axes import plain_ticks, shown_name
from llmlat.report.plots.layout import WIDTH, finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import is_number, ms, number, signed

VALUE_SIZE = 8.0
LONGEST = 34  # letters of an input's name, so that its bar has room


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
    values = [ours.get(n, {}).get("scaled_ms") for n in names]
    _bars(axes, [i - shift for i in range(len(names))], values, style.DECODE)
    if theirs:
        _bars(axes, [i + shift for i in range(len(names))], [theirs.get(n) for n in names], style.THEIRS)
    shown = [shown_name(name, LONGEST) for name in names]
    axes.axvline(0.0, color=style.LINE, linewidth=1.0, zorder=4)
    axes.set_yticks(range(len(names)), shown)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel("ms for one standard deviation of the input")
    _bare(axes, _width(shown, 1))
    finish(figure, [key(style.DECODE, "ours", "s"), key(style.THEIRS, "the thesis", "s")] if theirs else [])
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
        fontsize=VALUE_SIZE,
        zorder=6,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 0.8},
    )


def _width(names: Sequence[str], n_axes: int) -> float:
    """Return about how wide axes are, in points, with names beside the first of them."""
    widest = max(style.width_of(name, style.RC["font.size"]) for name in names)
    return float((WIDTH * style.POINTS - widest) / n_axes - 30.0)


def _bare(axes: Axes, width: float) -> None:
    """Leave room for the values beyond the bars, and draw nothing for the bars' own axis but their names."""
    spelled = [style.width_of(text.get_text(), VALUE_SIZE) + 8.0 for text in axes.texts]
    share = min(0.35, max(spelled, default=0.0) / width)
    axes.margins(x=share / (1.0 - 2.0 * share))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelcolor=style.INK)
    axes.spines["left"].set_visible(False)
    plain_ticks(axes, "x", most=4)


def errors(metrics: Mapping[str, Any]) -> Plot:
    """Draw the error of the fit beside those of simple guesses, and the noise floor under them."""
    floor = metrics.get("noise_floor")
    bars = [("this fit", metrics, style.DECODE)]
    bars += [(wording.BASELINES.get(k, k), v, style.GUESS) for k, v in metrics["baselines"].items() if v]
    names = [name for name, _, _ in bars]
    figure = new_figure(1.3 + 0.4 * len(bars))
    grid = figure.add_gridspec(1, 2)
    for column, (field, label) in enumerate((("mae_ms", "average miss (MAE), ms"), ("rmse_ms", "RMSE, ms"))):
        axes = figure.add_subplot(grid[column])
        _error_bars(axes, [(block.get(field), colour) for _, block, colour in bars], _width(names, 2))
        axes.set_yticks(range(len(bars)), names)
        axes.tick_params(labelleft=column == 0)
        axes.set_xlabel(label)
        if floor and is_number(floor.get(field)):
            axes.axvline(floor[field], color=style.FLOOR, linewidth=1.6, zorder=5)
    finish(figure, [key(style.FLOOR, _floor_words(floor), line=True)] if floor else [])
    return Plot("errors", "The error beside simple guesses", _error_caption(metrics), figure)


def _error_bars(axes: Axes, bars: Sequence[tuple[Any, str]], width: float) -> None:
    known = [(place, float(value), colour) for place, (value, colour) in enumerate(bars) if is_number(value)]
    places, values, colours = zip(*known, strict=True) if known else ((), (), ())
    axes.barh(places, values, height=0.6, color=colours, zorder=3)
    for place, value in zip(places, values, strict=True):
        _spell(axes, number(value), value, place)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    _bare(axes, width)
    axes.set_xlim(left=0.0)


def _floor_words(floor: Mapping[str, Any]) -> str:
    return f"noise floor, {ms(floor['mae_ms'])} and {ms(floor['rmse_ms'])}"


def _error_caption(metrics: Mapping[str, Any]) -> str:
    start = "Shorter is better; all on the same test tokens."
    if metrics.get("noise_floor"):
        return (
            f"{start} The line is how much equal steps differ anyway: "
            "no predictor that sees only these inputs gets reliably below it."
        )
    reason = metrics.get("noise_floor_reason") or "the rows allow none"
    return f"{start} There is no noise floor: {wording.sentence(reason)}"
