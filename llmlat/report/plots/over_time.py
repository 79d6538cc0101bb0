"""The measurement as it went: each step's time, and the state of the machine under it, on one clock."""

import functools
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from llmlat.records import DECODE, PREFILL, TARGET
from llmlat.report import style
from llmlat.report.plots.axes import fence, plain_ticks, points, sampled
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import count

NAME, TITLE = "over_time", "The measurement as it went"
GAP_S = 2.0  # drawn between two sessions, however long the pause was
MOST_PANELS = 3
STEP = ("session_id", "completed_at_ns", "is_warmup", "phase", "flags", TARGET)
# What is worth a panel, the most telling first: a name, its title, and the factor to the axis' unit.
STATES: dict[str, tuple[str, float]] = {
    "sm_clock_mhz": ("GPU clock, MHz", 1.0),
    "gpu_power_w": ("GPU power, W", 1.0),
    "gpu_temperature_c": ("GPU, °C", 1.0),
    "other_cpu_cores": ("cores of others", 1.0),
    "cpu_utilization": ("CPU busy, %", 100.0),
    "cpu_temperature_c": ("CPU, °C", 1.0),
}


def over_time(rows: pd.DataFrame) -> Plot:
    """Draw every step in the order of measuring, warm-up included, over the state of the machine.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row a step, warm-up included.
    """
    return _draw(pickle.dumps(rows[[*STEP, *STATES]]))


@functools.lru_cache(maxsize=1)
def _draw(pickled: bytes) -> Plot:
    """Draw the rows themselves, which jobs over one dataset share whatever they fit."""
    rows = pickle.loads(pickled)
    if rows.empty:
        return Plot(NAME, TITLE, "No rows were measured.", None)
    in_order = rows.assign(at_s=_measured_seconds(rows))
    states = [name for name in STATES if rows[name].notna().any()][:MOST_PANELS]
    figure = new_figure(2.4 + 1.0 * len(states))
    ratios = [2.4, *[1.0] * len(states)]
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    border = fence(rows[TARGET])
    shown = sampled(in_order, in_order["flags"] != "")
    _draw_steps(panels[0], shown, border)
    for axes, name in zip(panels[1:], states, strict=True):
        _draw_state(axes, shown, name)
    panels[-1].set_xlabel("seconds of measuring")
    plain_ticks(panels[-1], "x")
    finish(figure, _keys(in_order), columns=4)
    return Plot(NAME, TITLE, _caption(in_order, border, states), figure)


def _measured_seconds(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return when each step was complete, in seconds since the first, without the pauses between sessions."""
    at_s = rows["completed_at_ns"].to_numpy() / 1e9
    seconds, end = np.zeros(len(rows)), 0.0
    for session in rows["session_id"].unique():
        own = (rows["session_id"] == session).to_numpy()
        since = at_s[own] - at_s[own].min()
        seconds[own] = end + since
        end += float(since.max()) + GAP_S
    return seconds


def _draw_steps(axes: Axes, rows: pd.DataFrame, border: float) -> None:
    low = rows[TARGET].clip(upper=border)
    for which, colour, marker, size in _layers(rows):
        points(axes, rows.loc[which, "at_s"], low[which], colour, marker, size)
    margin = 0.07 * float(np.ptp(low)) or 0.1 * float(low.max())
    axes.set_ylim(max(0.0, float(low.min()) - margin), float(low.max()) + margin)
    axes.set_ylabel("time of a step, ms")
    plain_ticks(axes, "y")


def _layers(rows: pd.DataFrame) -> list[tuple[pd.Series, str, str, float]]:
    counted, clean = ~rows["is_warmup"], rows["flags"] == ""
    return [
        (rows["is_warmup"], style.GUESS, "X", 3.6),
        (counted & clean & (rows["phase"] == DECODE), style.DECODE, "o", 3.0),
        (counted & clean & (rows["phase"] == PREFILL), style.PREFILL, "D", 3.8),
        (counted & ~clean, style.THEIRS, "v", 4.2),
    ]


def _draw_state(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    label, factor = STATES[name]
    known = rows[rows[name].notna()]
    axes.plot(
        known["at_s"].to_numpy(), factor * known[name].to_numpy(), color=style.LINE, linewidth=1.0, zorder=3
    )
    axes.set_title(label, loc="left", color=style.MUTED)
    axes.margins(y=0.2)
    axes.locator_params(axis="y", nbins=3)
    plain_ticks(axes, "y")


def _keys(rows: pd.DataFrame) -> list[Any]:
    labels = ("warm-up", "later tokens", "first tokens", "doubtful")
    layers = zip(_layers(rows), labels, strict=True)
    return [key(colour, label, marker) for (which, colour, marker, _), label in layers if which.any()]


def _caption(rows: pd.DataFrame, border: float, states: list[str]) -> str:
    parts = ["Every step in the order of measuring; pauses between sessions are cut short."]
    if states:
        parts.append("Below it the state of the machine, as last sampled before each step.")
    above = int((rows[TARGET] > border).sum())
    if above:
        parts.append(f"{count(above)} slower steps are drawn on the upper edge.")
    return " ".join(parts)
