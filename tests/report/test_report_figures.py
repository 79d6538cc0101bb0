"""What the figures show of the frames: every outlier, on axes that it does not flatten."""

from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_frames import make_predictions, make_rows
from report_metrics import make_metrics

from llmlat.report import plots, style
from llmlat.report.plots.axes import fence, log_ticks, sampled, shown_name


def drawn_y(figure: Figure) -> set[float]:
    """Return every y that a marker stands at, within the limits of its axes."""
    found = set()
    for axes in figure.axes:
        low, high = axes.get_ylim()
        for line in axes.get_lines():
            if line.get_marker() not in ("None", "", None):
                found |= {float(y) for y in line.get_ydata() if low <= y <= high}
    return found


def drawn(metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Figure]:
    """Return the figures that the data allows, by name."""
    found = plots.draw(metrics, rows, predictions)
    return {name: plot.figure for name, plot in found.items() if plot.figure is not None}


def test_figures_are_what_the_data_allows(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    found = drawn(metrics, rows, predictions)
    assert len(found) == 10
    assert all(isinstance(figure, Figure) for figure in found.values())
    metrics["coefficients"] = None
    assert "coefficients" not in drawn(metrics, rows, predictions)


def test_every_row_is_drawn_once_and_the_outlier_flattens_nothing(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    plot = plots.draw(metrics, rows, predictions)["latency_by_context"]
    assert plot.figure is not None
    assert drawn_y(plot.figure) == set(rows["token_latency_ms"])
    lower = min(axes.get_ylim()[1] for axes in plot.figure.axes)
    assert lower < 60
    assert "holds 11 of 308 tokens" in plot.caption


def test_no_strip_without_outliers() -> None:
    rows = make_rows(outlier_ms=None)
    rows = rows[rows["phase"] == "decode"]
    predictions = make_predictions(rows)
    plot = plots.draw(make_metrics(rows, predictions), rows, predictions)["latency_by_context"]
    assert plot.figure is not None
    assert len(plot.figure.axes) == 1


def test_fit_far_from_the_rows_stays_in_sight(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    metrics["intercept_per_unit_ms"] = 55.0
    figure = drawn(metrics, rows, predictions)["latency_by_context"]
    assert min(axes.get_ylim()[1] for axes in figure.axes) > 55


def test_predictions_of_two_engines_are_not_drawn_as_their_mean(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    slower = predictions.assign(engine="no_cache", predicted_ms=predictions["predicted_ms"] + 100)
    both = pd.concat([predictions, slower], ignore_index=True)
    metrics["coefficients"] = None
    figure = drawn(metrics, rows, both)["latency_by_context"]
    dashes = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "_"]
    assert {float(y) for line in dashes for y in line.get_ydata()} == set(both["predicted_ms"])


def test_few_lines_have_colours_far_apart() -> None:
    assert style.shades(0) == []
    assert style.shades(2) == [style.RAMP[0], style.RAMP[-1]]
    assert style.shades(9) == list(style.RAMP)


def test_trace_shows_the_worst_row(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    plot = plots.draw(metrics, rows, predictions)["request_trace"]
    assert plot.figure is not None
    titles = [axes.get_title(loc="left") for axes in plot.figure.axes]
    assert titles[1].startswith("With the worst miss: request 0")
    assert "1,512\u00a0ms" in plot.caption


@pytest.mark.parametrize("predicted", [-5.0, 0.0])
def test_prediction_below_zero_is_counted(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame, predicted: float
) -> None:
    first = predictions["phase"] == "prefill"
    predictions.loc[first, "predicted_ms"] = predicted
    plot = plots.draw(metrics, rows, predictions)["predicted_against_measured"]
    assert plot.figure is not None
    assert f"{int(first.sum())} predictions of zero or less" in plot.caption


def test_perfect_predictions_and_equal_times_can_be_drawn(metrics: dict[str, Any]) -> None:
    rows = make_rows(outlier_ms=None).assign(token_latency_ms=20.0)
    predictions = make_predictions(rows).assign(predicted_ms=20.0)
    for name, figure in drawn(metrics, rows, predictions).items():
        assert style.svg(figure, name)


def test_inlined_figure_follows_the_page(
    metrics: dict[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    for name, figure in drawn(metrics, rows, predictions).items():
        inlined = style.inline(style.svg(figure, name), name)
        assert inlined.startswith("<svg")
        assert "var(--ink)" in inlined
        left = {colour for colour, _ in style.PALETTE.values() if colour in inlined}
        assert not left
        assert "fill: #000" not in inlined


def test_fence_ignores_one_slow_row() -> None:
    usual = pd.Series([20.0, 20.5, 21.0, 20.2] * 20)
    assert fence(usual) == 21.0
    assert fence(pd.concat([usual, pd.Series([1500.0])])) < 40


def test_sample_keeps_what_must_be_kept(monkeypatch: pytest.MonkeyPatch, rows: pd.DataFrame) -> None:
    monkeypatch.setattr("llmlat.report.plots.axes.CAP", 50)
    keep = rows["token_latency_ms"] > 60
    some = sampled(rows, keep)
    assert len(some) == 50
    assert set(rows.index[keep]) <= set(some.index)
    assert some.index.equals(sampled(rows, keep).index)


def test_few_round_ticks() -> None:
    assert log_ticks(40, 1600) == [50, 100, 200, 500, 1000]
    assert log_ticks(41, 46) == [42, 44, 46]
    assert all(len(log_ticks(1, 10.0**k, 4)) <= 4 for k in range(1, 9))


def test_names_that_the_font_lacks() -> None:
    assert shown_name("naïve 漢字\n$x$") == "naïve ???$x$"
    assert len(shown_name("x" * 90)) == 28
