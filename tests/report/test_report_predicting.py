"""What drives the latency, how far off it may be, and the arena: as sections, tables and on the terminal."""

# ruff: noqa: RUF001

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_findings import CELL, arena, band, contestant
from rich.console import Console

from llmlat import report
from llmlat.records import COLUMN
from llmlat.report import arena as arena_report
from llmlat.report import drivers, intervals, plots, sentences, story, tables

Metrics = dict[str, Any]
Told = Callable[[], dict[str, str]]


@pytest.fixture
def told(metrics: Metrics, rows: pd.DataFrame, predictions: pd.DataFrame) -> Told:
    """Return a function that tells the sections of the metrics as they are: heading to all their words."""

    def tell() -> dict[str, str]:
        found = story.sections(metrics, plots.draw(metrics, rows, predictions))
        spelled = {section.heading: "\n".join(map(str, section.parts)) for section in found}
        return {heading: words.replace("\\xa0", "\u00a0") for heading, words in spelled.items()}

    return tell


def markup(folder: Path, metrics: Metrics, rows: pd.DataFrame, predictions: pd.DataFrame) -> str:
    report.write(folder, metrics, rows, predictions)
    return (folder / "report.html").read_text(encoding="utf-8")


def only_decode(metrics: Metrics) -> Metrics:
    """Return what changes where no row is a first token."""
    for block in ("calibration", "coverage"):
        del metrics[block]["by_phase"]["prefill"]
    latency = {**metrics["latency"], "prefill": {"n": 0}}
    return {"latency": latency, "by_phase": {"decode": metrics["by_phase"]["decode"]}}


def printed(metrics: Metrics) -> str:
    target = io.StringIO()
    report.print_summary(metrics, Path("now"), Console(file=target, width=100))
    return target.getvalue()


def test_intervals_are_shares_and_say_what_is_not_known(metrics: Metrics) -> None:
    table = intervals.bands(metrics)
    assert table is not None
    by_name = {row[0]: row[1:] for row in table.rows}
    later = by_name["later tokens (decode)"]
    assert later == ("10", "± 1.2\u00a0%", "± 3.1\u00a0%", "± 4.7\u00a0%", "not known", "not known")
    assert by_name["contexts longer than measured"][3] == "not known"
    made, held, unknown = intervals.words(metrics)
    assert "request by request" in made
    assert "held 88.3\u00a0% of their tokens" in held
    assert "10 requests, which are too few for intervals of 95\u00a0% and 99\u00a0%" in unknown
    assert table.columns[1].header == "requests"


def test_an_input_that_did_not_vary_on_held_out_requests_is_said_to_be_untold(metrics: Metrics) -> None:
    (said,) = drivers.words(metrics)
    assert "one value" not in said
    metrics["features"], metrics["inputs"] = ([*metrics[name], "hardware"] for name in ("features", "inputs"))
    (said,) = drivers.words(metrics)
    assert said.endswith(" Of hardware this cannot tell: one value in all of those requests.")


def test_a_table_is_named_by_what_it_tells() -> None:
    cell = {**CELL, "model": "table", "quantization": "not told", "engine": "table"}
    assert drivers.cell_names([cell]) == ["all rows"]
    assert drivers.cell_names([{**cell, "model": "a/llama"}]) == ["llama"]


def test_ways_of_generating_are_named_by_what_tells_them_apart() -> None:
    assert drivers.cell_names([CELL]) == ["Mistral-7B-Instruct-v0.3, 8-bit weights, eager"]
    assert drivers.cell_names([{**CELL, "batch_size": size} for size in (1, 16)]) == [
        "one sequence",
        "batch of 16",
    ]
    told = drivers.cell_names([CELL, {**CELL, "engine": "no_cache", "num_beams": 4}])
    assert told == ["eager, no beams", "no_cache, 4 beams"]


def test_no_unknown_level_is_not_remarked_on(metrics: Metrics) -> None:
    metrics["calibration"] |= {"by_phase": {"decode": band(120, 0.1, 0.2, 0.3, 0.4, 0.5)}, "beyond": None}
    assert len(intervals.words(metrics)) == 2
    table = intervals.bands(metrics)
    assert table is not None
    assert len(table.rows) == 1


def test_coverage_by_phase_and_context(metrics: Metrics) -> None:
    table = intervals.tried(metrics)
    assert table is not None
    assert [row[0] for row in table.rows][3:] == [
        "context 12 to 90",
        "context 91 to 300",
        "context 301 to 489",
    ]
    assert table.rows[0][3] == "88.3\u00a0%"
    assert table.rows[4][4:] == ("–", "–"), "an interval that is infinite has no width"


def test_an_infinite_interval_is_not_said_to_have_held(metrics: Metrics) -> None:
    infinite = {"coverage": 1.0, "median_width_ms": None, "median_relative_width": None}
    metrics["coverage"] = {**metrics["coverage"], **infinite}
    assert intervals.tried(metrics) is None
    assert not any("interval held" in paragraph for paragraph in intervals.words(metrics))
    plot = plots.intervals.coverage(metrics)
    assert plot.figure is None
    assert "it is infinite" in plot.caption


def test_without_calibration_it_says_why(metrics: Metrics, told: Told) -> None:
    metrics |= {
        "calibration": None,
        "calibration_reason": "1 training requests are too few",
        "coverage": None,
    }
    words = told()["How far off it may be"]
    assert "How far off a prediction may be cannot be told: 1 training requests are too few." in words
    assert "It takes requests that can be held out." in words


def test_drivers_in_order_of_their_worth(metrics: Metrics, told: Told) -> None:
    said = "On requests never seen, the prediction rests on context length: shuffling the others"
    assert drivers.words(metrics)[0].startswith(said)
    table = drivers.effects(metrics)
    assert table is not None
    row = ("Mistral-7B-Instruct-v0.3, 8-bit weights, eager", "10", "+11.2 [+10.1, +12.4]")
    assert table.rows[0][:3] == row
    assert table.rows[0][4] == "–"
    assert row[0] in told()["What drives the latency"]
    metrics["importance"]["context length"]["low_ms"] = -0.1
    assert "costs the prediction nothing" in drivers.words(metrics)[0]
    metrics |= {"importance": None, "effects": [], "along_context": []}
    assert drivers.words(metrics) == []
    assert "does not look at the context" in told()["What drives the latency"]


def test_a_regressor_without_coefficients_shows_its_average_effects(metrics: Metrics) -> None:
    nothing = ["coefficients", "intercept_ms", "intercept_per_unit_ms", "formula"]
    metrics |= dict.fromkeys(nothing)
    table = tables.coefficients(metrics)
    assert table is not None
    assert [row[0] for row in table.rows] == ["prompt_tokens", "context_length"]
    assert table.rows[1][2] == "+1.19"
    assert "not a sum of its inputs" in table.note


def test_an_input_that_is_a_formula_is_told_by_it(metrics: Metrics) -> None:
    slope = metrics["coefficients"].pop("context_length")
    metrics["coefficients"]["kv_bytes"] = slope
    metrics["derived"] = {"kv_bytes": "kv_bytes_per_token * batch_context_tokens"}
    table = tables.coefficients(metrics)
    assert table is not None
    told = {row[0]: row[1] for row in table.rows}
    assert told["kv_bytes"] == "kv_bytes_per_token * batch_context_tokens"
    assert told["prompt_tokens"] == COLUMN["prompt_tokens"].meaning


def test_coefficients_have_their_intervals(metrics: Metrics) -> None:
    table = tables.coefficients(metrics)
    assert table is not None
    assert table.rows[1][3] == "+0.330 to +2.22"
    metrics["intervals"]["coefficients"] = None
    without = tables.coefficients(metrics)
    assert without is not None
    assert "95 % interval" not in [column.header for column in without.columns]
    assert {len(row) for row in without.rows} == {len(without.columns)}


def test_what_was_left_out_is_said(metrics: Metrics, told: Told) -> None:
    metrics["left_out"] = {"batch_size": "is 1 in all 240 rows that have it"}
    metrics["features"].append("batch_size")
    said = "Left out, as they can explain nothing here: batch_size is 1 in all 240 rows that have it."
    assert said in told()["The formula"]
    assert "batch_size" not in sentences.scope(metrics)


def test_the_arena_is_a_section_a_figure_and_a_table_on_the_terminal(
    tmp_path: Path, metrics: Metrics, rows: pd.DataFrame, predictions: pd.DataFrame, told: Told
) -> None:
    assert "Every regressor on the same folds" not in told()
    assert "Every regressor on the same folds" not in printed(metrics)
    metrics["arena"] = arena()
    words = told()["Every regressor on the same folds"]
    assert "Nearest on what was never seen (request by request): physics, off by 0.520\u00a0ms" in words
    assert "Not fitted: last_token: regressor: it predicts infinite latencies." in words
    assert "a_peers_forest is a peer's forest, as published." in words
    table = arena_report.table(metrics)
    assert table is not None
    assert [row[0] for row in table.rows] == ["physics", "a_peers_forest"]
    assert table.rows[0][1:5] == ("0.364", "0.520", "1.56", "1.3×")
    assert "physics" in printed(metrics)
    page = markup(tmp_path, metrics, rows, predictions)
    assert 'id="arena"' in page or "arena" in page
    assert (tmp_path / "figures" / "arena.svg").is_file()


def test_the_arena_says_which_way_the_gap_goes_and_shows_the_floor(
    metrics: Metrics, rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    metrics["arena"] = arena()
    metrics["noise_floor"]["mae_ms"] = 0.01
    assert "testing on rows at random hides" in plots.draw(metrics, rows, predictions)["arena"].caption
    for told in metrics["arena"][:2]:
        told["splits"]["random"]["mae_ms"] = 3.0
    plot = plots.draw(metrics, rows, predictions)["arena"]
    assert "quicker than the rest" in plot.caption
    assert plot.figure is not None
    assert plot.figure.axes[0].get_xlim()[0] < 0.01


def test_an_arena_of_failures_says_so(metrics: Metrics, told: Told) -> None:
    metrics["arena"] = arena()[2:]
    words = told()["Every regressor on the same folds"]
    assert "Not fitted: last_token" in words
    assert "Nearest" not in words
    assert arena_report.table(metrics) is None


def test_where_nothing_was_held_out_the_arena_does_not_say_never_seen(metrics: Metrics, told: Told) -> None:
    told_of = contestant("physics", 0.5)
    metrics["arena"] = [{**told_of, "splits": {"random": told_of["splits"]["random"]}}]
    words = told()["Every regressor on the same folds"]
    assert "never seen" not in words.partition("Table(")[0]
    assert "token by token, at random" in words


@pytest.mark.parametrize("has_floor", [True, False])
def test_the_arenas_effects_are_one_table(metrics: Metrics, has_floor: bool) -> None:
    metrics["arena"] = arena()
    metrics["noise_floor"] = metrics["noise_floor"] if has_floor else None
    table = arena_report.effects(metrics)
    assert table is not None
    assert table.rows == (("physics", "+1.10"), ("a_peers_forest", "–"))
    errors = arena_report.table(metrics)
    assert errors is not None
    assert ("× floor" in [column.header for column in errors.columns]) == has_floor


def test_a_table_of_ones_own_says_nothing_of_measuring(
    tmp_path: Path, metrics: Metrics, rows: pd.DataFrame, predictions: pd.DataFrame, told: Told
) -> None:
    metrics |= {
        "source": "table",
        "prompt_set": "theirs.csv",
        "device": "not told",
        "measurement": {},
        **only_decode(metrics),
        "cells": [],
    }
    headings = set(told())
    assert not headings & {
        "How it was measured",
        "Without the slow start",
        "First tokens and later tokens",
        "The first time at a context length",
    }
    assert "Requests it has never seen" in headings
    assert sentences.result(metrics).startswith("On theirs.csv, predictions")
    assert "10 groups" in sentences.scope(metrics)
    later = rows[(rows["phase"] == "decode") & ~rows["is_warmup"]]
    page = markup(tmp_path, metrics, later, predictions[predictions["phase"] == "decode"])
    for word in ("warm-up", "warmup", "after loading", "first token"):
        assert word not in page.lower().partition("<body")[2], word
    assert "warm-up" not in printed(metrics)


def test_several_cells_have_a_curve_each(
    metrics: Metrics, rows: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    curve = metrics["along_context"][0]
    metrics["along_context"] += [{**curve, **CELL, "engine": f"engine {k}"} for k in range(30)]
    plot = plots.draw(metrics, rows, predictions)["along_context"]
    assert plot.figure is not None
    assert "more curves not drawn" in plot.caption
