"""The figures of a sweep: the error over a swept key, and each coefficient over alpha."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from llmlat.report import style
from llmlat.report.plots.axes import log_axis, plain_ticks
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key as legend_key
from llmlat.report.plots.plot import Plot
from llmlat.sweep.choose import parts, roles_of
from llmlat.sweep.heatmap import MAX_PANELS, left_out, most_varied, panel_keys
from llmlat.sweep.overrides import label, short_names, spelled
from llmlat.sweep.seeds import over_seeds

MAX_LINES = len(style.RAMP)
MAX_TICKS = 8  # so many swept values each get a tick of their own
WIDE = 20  # swept values that span this ratio or more stand on a log scale
MANY = 30  # so many points on a line stand for themselves, without a mark each
FEATURE_COLOURS = (style.PREFILL, style.DECODE, style.THEIRS, style.FLOOR, style.GUESS)


def error_plots(jobs: pd.DataFrame, swept: Sequence[str]) -> list[Plot]:
    """Draw validation and test MAE over a swept key, a colour a value of the other; none without keys.

    Where seeds are swept, points are means and bars one standard deviation over seeds. Where more keys decide
    what is measured than are drawn, each of their values gets a figure.
    """
    keys = _axes_of(jobs, swept)
    table = over_seeds(jobs, swept)
    table = table[table["mae_ms"].notna()]
    if keys is None or table.empty:
        return []
    panels = list(parts(table, panel_keys(swept, keys)))
    said = _error_caption(table, bool(roles_of(swept).seeds)) + left_out(len(panels))
    return [
        _error_plot(f"error_over_key_{place}", label(values), said, part, keys)
        for place, (values, part) in enumerate(panels[:MAX_PANELS])
    ]


def along_of(jobs: pd.DataFrame, swept: Sequence[str]) -> str:
    """Return the key that errors are drawn over, in short; nothing where there is none."""
    keys = _axes_of(jobs, swept)
    return short_names([keys[1]])[keys[1]] if keys else ""


def _axes_of(jobs: pd.DataFrame, swept: Sequence[str]) -> tuple[str | None, str] | None:
    """Return the key that is told apart by colour, if any, and the key along the axis."""
    alone = (key for key in swept if key not in roles_of(swept).seeds)
    return most_varied(jobs, swept) or next(((None, key) for key in alone), None)


def _error_plot(
    name: str, title: str, caption: str, table: pd.DataFrame, keys: tuple[str | None, str]
) -> Plot:
    other, along = keys
    figure = new_figure()
    axes = figure.add_subplot()
    shown = _best_of_the_rest(table, keys)
    place = _x_axis(axes, shown[along], along)
    groups = list(parts(shown, [other] if other else []))
    # Colours for the first few; a legend of twenty colours tells nobody apart.
    entries = []
    colours = style.shades(len(groups)) if other else [style.DECODE]
    for (values, part), colour in zip(groups, colours, strict=False):
        _error_line(axes, place(part[along]), part, "mae_ms", colour, dashed=True)
        _error_line(axes, place(part[along]), part, "validation_mae_ms", colour, dashed=False)
        entries.append(legend_key(colour, label(values), line=True))
    _error_axis(axes, shown)
    finish(figure, entries if other else [], columns=4)
    if other and len(groups) > MAX_LINES:
        caption += f" The first {MAX_LINES} of {len(groups)} values are drawn; the tables hold all."
    return Plot(name, title, caption, figure)


def _best_of_the_rest(table: pd.DataFrame, keys: tuple[str | None, str]) -> pd.DataFrame:
    """Keep a row for each point: where more settings are swept, the one that did best on validation."""
    by_error = table.sort_values(["validation_mae_ms"], kind="stable", na_position="last")
    kept = by_error.drop_duplicates([key for key in keys if key]).index
    return table.loc[sorted(kept)]


def _error_caption(table: pd.DataFrame, with_seeds: bool) -> str:
    said = ["Solid: on validation folds. Dashed: on the untouched test rows."]
    if table["validation_mae_ms"].isna().all():
        said = ["Dashed: on the untouched test rows; these jobs have no validation errors."]
    if with_seeds:
        said.append("Points are means over seeds, bars one standard deviation.")
    return " ".join(said)


def _error_line(
    axes: Axes, x: "np.ndarray[Any, Any]", part: pd.DataFrame, value: str, colour: str, dashed: bool
) -> None:
    order = np.argsort(x)
    y, spread = (part[name].to_numpy(dtype=float)[order] for name in (value, f"{value}_sd"))
    known = np.isfinite(y)
    if not known.any():
        return
    axes.errorbar(
        x[order][known],
        y[known],
        yerr=spread[known] if np.isfinite(spread).any() else None,
        color=colour,
        linewidth=1.3,
        linestyle=(0, (3, 2)) if dashed else "-",
        markerfacecolor=style.PAPER if dashed else colour,
        **_mark(len(x)),
        elinewidth=1.0,
        zorder=3,
    )


def _mark(n_points: int) -> dict[str, Any]:
    return {"marker": "" if n_points > MANY else "o", "markersize": 4.0, "capsize": 2.5}


def _error_axis(axes: Axes, table: pd.DataFrame) -> None:
    values = pd.concat([table["mae_ms"], table["validation_mae_ms"]]).dropna().astype(float)
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > WIDE:
        log_axis(axes, "y", low / 1.3, high * 1.3)
    else:
        top = table[["mae_ms_sd", "validation_mae_ms_sd"]].astype(float).max().max()
        # From 0, so that a difference looks as large as it is.
        axes.set_ylim(0, (high + (top if np.isfinite(top) else 0.0)) * 1.1 or 1.0)
        plain_ticks(axes, "y")
    axes.set_ylabel("MAE, ms")


def coefficient_paths(jobs: pd.DataFrame, swept: Sequence[str]) -> list[Plot]:
    """Draw each scaled coefficient over the regressor's most varied number, a figure for each measurement."""
    along = path_key(jobs, swept)
    names = [name for name in map(str, jobs) if name.startswith("scaled_ms.") and jobs[name].notna().any()]
    if along is None or not names:
        return []
    table = over_seeds(jobs, swept)
    others = [key for key in swept if key not in {along, *roles_of(swept).seeds}]
    drawn = [
        _path(values, part, along, names, place)
        for place, (values, part) in enumerate(parts(table[table["n_done"] > 0], others))
        if part[along].nunique() > 1
    ]
    return drawn[:MAX_PANELS]


def path_key(jobs: pd.DataFrame, swept: Sequence[str]) -> str | None:
    """Return the key that coefficients are drawn over: the regressor's alpha, or its most varied number."""
    numbers = [
        key
        for key in swept
        if key.startswith("regressor.")
        and pd.api.types.is_numeric_dtype(jobs[key])
        and jobs[key].nunique() > 1
    ]
    return max(numbers, key=lambda key: (key == "regressor.alpha", jobs[key].nunique()), default=None)


def _path(values: dict[str, Any], part: pd.DataFrame, along: str, names: list[str], place: int) -> Plot:
    figure = new_figure(2.9)
    axes = figure.add_subplot()
    at = _x_axis(axes, part[along], along)(part[along])
    order = np.argsort(at)
    known = [name for name in names if part[name].notna().any()]
    for name, colour in zip(known, FEATURE_COLOURS, strict=False):
        y, spread = (part[column].to_numpy(dtype=float)[order] for column in (name, f"{name}_sd"))
        bars = spread if np.isfinite(spread).any() else None
        axes.errorbar(at[order], y, yerr=bars, color=colour, linewidth=1.4, zorder=3, **_mark(len(at)))
    axes.axhline(0.0, color=style.LINE, linewidth=0.8, zorder=2)
    axes.set_ylabel("ms for one std. dev.")
    plain_ticks(axes, "y")
    finish(
        figure,
        [
            legend_key(colour, name.partition(".")[2], line=True)
            for name, colour in zip(known, FEATURE_COLOURS, strict=False)
        ],
    )
    return Plot(f"coefficients_over_key_{place}", label(values), "", figure)


def _x_axis(axes: Axes, values: pd.Series, key: str) -> Any:
    """Set the x axis to a swept key's values, and return what maps values to places on it."""
    axes.set_xlabel(short_names([key])[key])
    if not pd.api.types.is_numeric_dtype(values):
        labels = [spelled(value) for value in values.drop_duplicates()]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        return lambda part: np.array([labels.index(spelled(value)) for value in part], dtype=float)
    known = values.dropna().astype(float)
    low, high = float(known.min()), float(known.max())
    if low > 0 and high / low >= WIDE:
        log_axis(axes, "x", low / 1.5, high * 1.5)
        if known.nunique() <= MAX_TICKS:
            axes.xaxis.set_major_locator(FixedLocator(sorted(known.unique())))
    else:
        plain_ticks(axes, "x")
    return lambda part: part.to_numpy(dtype=float)
