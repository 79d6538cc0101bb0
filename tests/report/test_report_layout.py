"""Every word of a figure is inside it, and none is over another, whatever the names and numbers are."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from report_findings import arena, contestant
from report_frames import make_predictions, make_rows
from report_metrics import make_metrics

from llmlat.report import plots, style
from llmlat.report.plots.layout import finish, new_figure
from llmlat.report.plots.legend import key


def words(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Yield every text that is drawn, and where; a tick out of sight is not."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip():
            yield text.get_text(), Text.get_window_extent(text, canvas.get_renderer())


def check(figure: Figure) -> None:
    """Assert that all words can be read."""
    with style.drawing():
        found = list(words(figure))
        right, top = figure.bbox.x1, figure.bbox.y1
    outside = [text for text, b in found if b.x0 < -1 or b.y0 < -1 or b.x1 > right + 1 or b.y1 > top + 1]
    assert outside == []
    assert [(a, b) for (a, at), (b, beside) in combinations(found, 2) if overlap(at, beside)] == []


def overlap(one: Bbox, other: Bbox) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    return bool(across > 0 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1)


def check_all(metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame) -> None:
    for plot in plots.draw(metrics, rows, predictions).values():
        if plot.figure is not None:
            check(plot.figure)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_of_short_and_long_times(scale: float) -> None:
    rows = make_rows()
    rows["token_latency_ms"] *= scale
    predictions = make_predictions(rows)
    predictions["predicted_ms"] *= scale
    check_all(make_metrics(rows, predictions), rows, predictions)


def test_of_long_names(metrics: dict[str, Any], rows: pd.DataFrame) -> None:
    inputs = {
        f"a_long_input_from_somewhere_else_{k}_times_context": s for k, s in enumerate([-12345.6, 0.001, 9e3])
    }
    one = metrics["coefficients"]["prompt_tokens"]
    metrics["coefficients"] = {name: {**one, "scaled_ms": scaled} for name, scaled in inputs.items()}
    rows["prompt_id"] = "files/of/prompts/with a name of many words " + rows["prompt_id"]
    rows["request_id"] += 123_456
    check_all(metrics, rows, make_predictions(rows))


def test_without_strip_reference_and_floor(metrics: dict[str, Any]) -> None:
    rows = make_rows(outlier_ms=None)
    metrics |= {"reference": None, "noise_floor": None, "noise_floor_reason": "nothing was measured twice"}
    check_all(metrics, rows[rows["phase"] == "decode"], make_predictions(rows))


def test_of_contexts_over_decades() -> None:
    rows = make_rows(n_requests=10)
    growth = 12 * 2.4 ** (rows["request_id"].clip(lower=0) % 10)
    rows["prompt_tokens"] = growth.astype(int)
    rows["context_length"] = rows["prompt_tokens"] + rows["token_index"]
    predictions = make_predictions(rows)
    check_all(make_metrics(rows, predictions), rows, predictions)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("spread", [1.1, 400.0])
def test_of_an_arena(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame, scale: float, spread: float
) -> None:
    many = [
        contestant(f"a_contestant_of_a_long_name_{k}", scale * spread ** (k / 17), of="a peer")
        for k in range(18)
    ]
    metrics["arena"] = many + arena()[2:]
    metrics["noise_floor"]["mae_ms"] = 0.1 * scale
    check_all(metrics, rows, predictions)


def test_of_few_contestants_that_were_tested_one_way(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    metrics["arena"] = [{**told, "splits": {"random": told["splits"]["random"]}} for told in arena()[:2]]
    check_all(metrics, rows, predictions)


def test_of_many_inputs_cells_and_contexts(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    worth = metrics["importance"]["context length"]
    metrics["importance"] = {
        f"a group of inputs of a long name {k}": {**worth, "mae_ms_more": 10.0**k} for k in range(-3, 5)
    }
    curve = metrics["along_context"][0]
    curves = [{**curve, "engine": f"an engine of a long name {k}"} for k in range(9)]
    metrics["along_context"] = [*curves, {**curve, "context_length": [7], "predicted_ms": [1.0]}]
    part = metrics["coverage"]["by_context"][0]
    metrics["coverage"]["by_context"] = [{**part, "from": 10**k, "to": 131_072} for k in range(2, 6)]
    metrics["coverage"]["coverage"] = 0.02
    check_all(metrics, rows, predictions)


def test_a_legend_has_the_columns_that_fit_and_labels_stay_inside() -> None:
    with style.drawing():
        figure = new_figure(2.0)
        axes = figure.add_subplot()
        axes.set_yticks([0, 1], ["a name so long that hardly any room is left for the axes", "short"])
        axes.set_ylim(-0.5, 1.5)
        axes.set_xticks(np.arange(12), [f"value {n}" for n in range(12)])
        axes.set_xlabel("a label that is a good deal wider than what is above it")
        finish(figure, [key(style.DECODE, f"an entry of some length {n}") for n in range(4)], columns=4)
    check(figure)
