"""Single requests, token by token: a usual one, and the one with the worst miss."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from llmlat.records import PREFILL, TARGET
from llmlat.report import style
from llmlat.report.plots.axes import fence, plain_ticks, points, shown_name
from llmlat.report.plots.fitted import fitted
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key
from llmlat.report.plots.plot import Plot
from llmlat.report.wording import ms

NAME, TITLE = "request_trace", "One request, token by token"


def request_trace(metrics: Mapping[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame) -> Plot:
    """Draw a usual request, and the one that holds the worst test row where that is another."""
    counted = rows[~rows["is_warmup"]]
    if counted.empty:
        return Plot(NAME, TITLE, "No request was counted.", None)
    chosen = _chosen(counted, predictions)
    predicted = fitted(metrics, counted)
    figure = new_figure(1.0 + 1.75 * len(chosen))
    notes = []
    for place, (request, why) in enumerate(chosen.items()):
        axes = figure.add_subplot(len(chosen), 1, place + 1)
        trace = counted[counted["request_id"] == request].sort_values("token_index")
        overlay = _overlay(trace, predicted, predictions)
        notes += _draw(axes, trace, overlay)
        prompt = shown_name(trace["prompt_id"].iloc[0])
        axes.set_title(f"{why}: request {request}, {prompt}")
        axes.set_ylabel("ms")
    axes.set_xlabel("generated token")
    finish(figure, _keys(predicted is not None))
    return Plot(NAME, TITLE, _caption(notes, predicted is not None), figure)


def _chosen(counted: pd.DataFrame, predictions: pd.DataFrame) -> dict[int, str]:
    """Pick the request whose median is the middle one among the longer requests, and the worst row's."""
    by_request = counted.groupby("request_id")[TARGET].agg(["median", "size"])
    long = by_request[by_request["size"] >= by_request["size"].median()]
    middle = (long["median"] - long["median"].median()).abs()
    chosen = {int(str(middle.idxmin())): "A usual one"}
    if len(predictions):
        miss = (predictions[TARGET] - predictions["predicted_ms"]).abs()
        worst = int(predictions["request_id"].iloc[int(miss.to_numpy().argmax())])
        chosen[worst] = "Usual, and the worst miss too" if worst in chosen else "With the worst miss"
    return chosen


def _overlay(trace: pd.DataFrame, predicted: pd.Series | None, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return what was predicted along the request: everywhere, or on its test rows."""
    if predicted is not None:
        return trace.assign(predicted_ms=predicted.loc[trace.index])
    own: pd.DataFrame = predictions[predictions["request_id"] == trace["request_id"].iloc[0]]
    return own.sort_values("token_index")


def _draw(axes: Axes, trace: pd.DataFrame, overlay: pd.DataFrame) -> list[str]:
    """Draw one request up to its usual times; return the times above, each marked on the upper edge."""
    inside = trace[trace[TARGET] <= fence(trace[TARGET])]
    known = pd.concat([inside[TARGET], overlay["predicted_ms"]])
    low, high = float(known.min()), float(known.max())
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    inside, beyond = trace[trace[TARGET] <= high], trace[trace[TARGET] > high]
    decode, prefill = inside[inside["phase"] != PREFILL], inside[inside["phase"] == PREFILL]
    line = decode.set_index("token_index")[TARGET].reindex(range(1, int(trace["token_index"].max()) + 1))
    axes.plot(line.index.to_numpy(), line.to_numpy(), color=style.DECODE, linewidth=0.8, alpha=0.6, zorder=2)
    points(axes, decode["token_index"], decode[TARGET], style.DECODE)
    points(axes, prefill["token_index"], prefill[TARGET], style.PREFILL, "D", 5.0)
    _draw_overlay(axes, overlay, len(overlay) == len(trace))
    axes.set_ylim(low - margin, high + 1.6 * margin)
    plain_ticks(axes, "x")
    plain_ticks(axes, "y", most=4)
    _mark_beyond(axes, beyond, high + 1.6 * margin)
    return [ms(value) for value in beyond[TARGET]]


def _draw_overlay(axes: Axes, overlay: pd.DataFrame, whole: bool) -> None:
    x, y = overlay["token_index"].to_numpy(), overlay["predicted_ms"].to_numpy()
    if whole:
        axes.plot(x, y, color=style.LINE, linewidth=1.3, zorder=4)
    else:
        axes.plot(
            x, y, color=style.LINE, linestyle="none", marker="_", markersize=6, markeredgewidth=1.4, zorder=4
        )


def _mark_beyond(axes: Axes, beyond: pd.DataFrame, edge: float) -> None:
    """Mark rows above the axes on its upper edge; spell the largest."""
    for phase, part in beyond.groupby("phase"):
        axes.plot(
            part["token_index"].to_numpy(),
            [edge] * len(part),
            marker="^",
            markersize=6,
            color=style.PREFILL if phase == PREFILL else style.DECODE,
            linestyle="none",
            clip_on=False,
            zorder=6,
        )
    for row in beyond.nlargest(1, TARGET).itertuples():
        token = float(str(row.token_index))
        is_late = token > 0.8 * axes.get_xlim()[1]
        axes.annotate(
            ms(getattr(row, TARGET)),
            (token, edge),
            xytext=(-7 if is_late else 7, -7),
            textcoords="offset points",
            ha="right" if is_late else "left",
            fontsize=8.0,
        )


def _keys(everywhere: bool) -> list[Any]:
    return [
        key(style.PREFILL, "first token", "D"),
        key(style.DECODE, "later tokens"),
        key(style.LINE, "predicted" if everywhere else "predicted, test tokens", line=True),
    ]


def _caption(beyond: list[str], everywhere: bool) -> str:
    parts = ["The time of every token in the order in which it was generated."]
    if not everywhere:
        parts.append("A prediction is drawn where the token was a test token.")
    if beyond:
        named = ", ".join(beyond[:4]) + (", …" if len(beyond) > 4 else "")
        parts.append(f"Triangles on the upper edge are tokens above it: {named}.")
    return " ".join(parts)
