"""Latency against context: every row once, the fit over it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from llmlat.records import DECODE, PREFILL, TARGET
from llmlat.report import style
from llmlat.report.drivers import WAY
from llmlat.report.plots.axes import (
    CAP,
    broken,
    context_axis,
    fence,
    plain_ticks,
    points,
    sampled,
)
from llmlat.report.plots.fitted import with_predictions
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import DASH, count, ms

NAME, TITLE = "latency_by_context", "How long each token took"
LINES, DASHES = 60, 600  # so much of the fit is drawn; more would cover the rows
Group = tuple[str, str, "np.ndarray[Any, Any]"]


def latency_by_context(metrics: Mapping[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame) -> Plot:
    """Draw every token's time against its context, coloured by the prompt's length."""
    if rows.empty:
        return Plot(NAME, TITLE, "No rows were measured.", None)
    figure = new_figure()
    with_lines, everywhere = with_predictions(metrics, rows[~rows["is_warmup"]], predictions)
    border = _border(rows, with_lines)
    main, strip = broken(figure, rows[TARGET], border)
    context_axis(main, rows["context_length"])
    shown = sampled(rows, rows[TARGET] > border)
    groups = _groups(shown[~shown["is_warmup"]])
    for axes, part in ((main, shown[TARGET] <= border), (strip, shown[TARGET] > border)):
        if axes is not None:
            _draw_rows(axes, shown[part], groups)
            _draw_fit(axes, with_lines, everywhere)
    _show_fit(main, with_lines)
    main.set_ylabel("time of the token, ms")
    plain_ticks(main, "y")
    slow = rows[rows[TARGET] > border]
    if strip is not None:
        strip.set_title(f"{_slow_words(slow, rows)} · log scale", color=style.MUTED, fontsize=7.8)
    finish(figure, _keys(groups, rows), columns=4)
    return Plot(NAME, TITLE, _caption(rows, shown, slow, border, everywhere), figure)


def _border(rows: pd.DataFrame, with_lines: pd.DataFrame) -> float:
    """Return the time above which rows go to the strip, so that neither they nor the fit flatten the rest."""
    usual = with_lines.loc[with_lines["phase"] == DECODE, "predicted_ms"]
    return max(fence(rows[TARGET]), float(usual.quantile(0.98)) if len(usual) else 0.0)


def _show_fit(axes: Axes, with_lines: pd.DataFrame) -> None:
    """Widen the axes to hold the fit of decode rows, which slow rows may have drawn far from them."""
    usual = with_lines.loc[with_lines["phase"] == DECODE, "predicted_ms"]
    if len(usual):
        low, high = axes.get_ylim()
        margin = 0.04 * (high - low)
        axes.set_ylim(
            min(low, float(usual.quantile(0.02)) - margin), max(high, float(usual.quantile(0.98)) + margin)
        )


def _groups(rows: pd.DataFrame) -> list[Group]:
    """Divide decode rows into at most five lengths of prompt: a label, a colour and the lengths of each."""
    decode = rows[rows["phase"] == DECODE]
    lengths = np.sort(decode["prompt_tokens"].unique())
    parts = [part for part in np.array_split(lengths, min(5, max(1, len(lengths)))) if len(part)]
    return [(_span(part), shade, part) for part, shade in zip(parts, style.shades(len(parts)), strict=True)]


def _span(part: "np.ndarray[Any, Any]") -> str:
    ends = count(part[0]) if part[0] == part[-1] else f"{count(part[0])}{DASH}{count(part[-1])}"
    return f"prompt {ends}"


def _draw_rows(axes: Axes, rows: pd.DataFrame, groups: list[Group]) -> None:
    warmup = rows[rows["is_warmup"]]
    points(axes, warmup["context_length"], warmup[TARGET], style.GUESS, "X", 4.0)
    counted = rows[~rows["is_warmup"]]
    for _, shade, lengths in groups:
        group = counted[(counted["phase"] == DECODE) & counted["prompt_tokens"].isin(lengths)]
        points(axes, group["context_length"], group[TARGET], shade)
    prefill = counted[counted["phase"] == PREFILL]
    points(axes, prefill["context_length"], prefill[TARGET], style.PREFILL, "D", 4.6)


def _draw_fit(axes: Axes, rows: pd.DataFrame, everywhere: bool) -> None:
    """Draw a line for each length of prompt along its contexts; where only test rows are known, dashes."""
    line, place = (
        [*(name for name in WAY if name in rows), "prompt_tokens"],
        ["context_length", "predicted_ms"],
    )
    means = rows.groupby([*line, "context_length"])["predicted_ms"].mean().reset_index()
    if everywhere:
        lines = [part[place].to_numpy(dtype=float) for _, part in means.groupby(line)]
        lines = [lines[i] for i in _spread(len(lines), LINES)]
        axes.add_collection(
            LineCollection(lines, colors=style.PAPER, linewidths=2.6, zorder=4), autolim=False
        )
        axes.add_collection(LineCollection(lines, colors=style.LINE, linewidths=1.3, zorder=5), autolim=False)
        short = [line[len(line) // 2] for line in lines if np.ptp(line[:, 0]) < 0.2 * line[0, 0]]
        dashes = np.array(short if axes.get_xscale() == "log" else [])
    else:
        dashes = means[place].iloc[_spread(len(means), DASHES)].to_numpy(dtype=float)
    if len(dashes):
        x, y = dashes.T
        axes.plot(
            x, y, linestyle="none", marker="_", markersize=5, markeredgewidth=1.3, color=style.LINE, zorder=5
        )


def _spread(n: int, most: int) -> list[int]:
    """Return at most `most` positions of `n`, evenly spread."""
    return list(range(n)) if n <= most else [int(i) for i in np.linspace(0, n - 1, most).round()]


def _keys(groups: list[Group], rows: pd.DataFrame) -> list[Any]:
    entries = [key(shade, label) for label, shade, _ in groups]
    if ((rows["phase"] == PREFILL) & ~rows["is_warmup"]).any():
        entries.append(key(style.PREFILL, "first token", "D"))
    if rows["is_warmup"].any():
        entries.append(key(style.GUESS, "warm-up", "X"))
    return [*entries, key(style.LINE, "predicted", line=True)]


def _slow_words(slow: pd.DataFrame, rows: pd.DataFrame) -> str:
    return f"{count(len(slow))} slower of {count(len(rows))} tokens, up to {ms(slow[TARGET].max())}"


def _caption(
    rows: pd.DataFrame, shown: pd.DataFrame, slow: pd.DataFrame, border: float, everywhere: bool
) -> str:
    parts = [
        "Each point is a generated token, coloured by the length of its prompt in tokens; "
        f"{'a line is the fit for one length' if everywhere else 'a dash is the prediction of a test token'}."
    ]
    if len(slow):
        first = int((slow["phase"] == PREFILL).sum())
        parts.append(
            f"The upper strip holds {count(len(slow))} of {count(len(rows))} tokens that took more than"
            f" {ms(border)} ({count(first)} of them first tokens), "
            "on a log scale, so that they do not flatten the rest."
        )
    if len(shown) < len(rows):
        parts.append(f"{count(CAP)} of {count(len(rows))} rows are drawn; every slow one is among them.")
    return " ".join(parts)
