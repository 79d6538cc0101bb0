"""What a sweep's W&B report holds: words, and panels that refer to what the runs have logged."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tracked_runs import ReadBack, config
from tracked_sweeps import (
    GROUP,
    OVERRIDES,
    grids,
    later,
    offline,
    panels,
    spec_of,
    text_of,
    track_jobs,
)

from llmlat.tracking import report_spec
from llmlat.tracking.team_report import publish


def test_the_spec_is_what_the_library_makes_and_reads(sweep: Path, jobs: pd.DataFrame):
    kept = offline(sweep, jobs)
    path = sweep / "wandb_report.json"
    report_spec.write(path, report_spec.read(path))

    assert spec_of(sweep) == kept
    report = report_spec.read(path)
    assert not [block for block in report.blocks if "Unknown" in type(block).__name__]
    assert not [p for b in report.blocks for p in getattr(b, "panels", ()) if "Unknown" in type(p).__name__]


def test_the_spec_names_no_project_in_its_run_sets_and_filters_them_by_the_sweeps_group(
    sweep: Path, jobs: pd.DataFrame
):
    spec = offline(sweep, jobs)

    for grid in grids(spec):
        (run_set,) = grid["runSets"]
        assert "project" not in run_set
        (kept,) = run_set["filters"]["filters"]
        assert (kept["key"], kept["op"], kept["value"]) == ({"section": "run", "name": "group"}, "=", GROUP)
    assert spec["project"] == {"name": "llmlat", "entityName": ""}


def test_the_words_say_what_was_asked_what_was_best_what_failed_and_how_to_repeat_it(
    sweep: Path, jobs: pd.DataFrame
):
    spec = offline(sweep, jobs)
    text, blocks = text_of(spec), spec["spec"]["blocks"]

    assert "6 jobs of **thesis_sweep**: 5 done and 1 failed." in text
    assert "| regressor.alpha | 0.01, 1, 100 |" in text
    assert "| prompt_set=short | alpha=1 | 3 | 1.10 | 1.00 |" in text
    assert "| alpha=100 | 1.99 | 1.99 |" in text
    assert "| 4 | prompt_set=chat alpha=1 | failed | ModelError: no such \\| model at all |" in text
    assert "Published: the thesis. Ours: job 1, on cpu." in text
    assert "| MAE, ms | 34.03 | 1.500 |" in text
    callouts = [json.dumps(block) for block in blocks if block["type"] == "callout-block"]
    assert [("stood in" in text, "weights are random" in text) for text in callouts[:2]] == [
        (True, False),
        (False, True),
    ]
    (code,) = [block for block in blocks if block["type"] == "code-block"]
    assert code["children"][0]["children"][0]["text"] == shlex.join(
        ["python", "-m", "llmlat", "-m", *OVERRIDES]
    )


def test_every_panel_refers_to_what_a_run_logs(sweep: Path, jobs: pd.DataFrame):
    track_jobs(sweep, jobs.head(1))
    jobs["validation_mae_ms"] = None  # The small run of these tests has none.
    left, spec = ReadBack(sweep / "0"), offline(sweep, jobs)

    keys = {key for key in _keys(spec) if key not in DRAWN_BY_WHOLE_RUNS}
    assert {"summary:mae_ms", "config:regressor.value.alpha", "summary:figures/coefficients"} <= keys
    _assert_logged(keys, left)
    assert left.run["run_group"] == GROUP
    (chart,) = panels(spec, "Vega2")
    columns, _ = left.table("prediction_rows")
    assert set(chart["fieldSettings"].values()) <= set(columns)


# The small run of these tests draws one figure.
DRAWN_BY_WHOLE_RUNS = {"summary:figures/predicted_against_measured", "summary:figures/latency_by_context"}


def _assert_logged(keys: set[str], left: ReadBack) -> None:
    """Have every key of a panel be among what a run has logged."""
    for key in keys:
        section, _, name = key.partition(":")
        if section == "summary":
            assert name in left.summary or f"{name}.path" in left.summary, key
        elif section == "config":
            first, _, rest = name.partition(".value")
            node = left.config[first]
            for part in rest.strip(".").split("."):
                node = node[part]


def test_a_real_sweep_is_one_group_of_runs_that_its_spec_refers_to(real_sweep: Path):
    runs = [ReadBack(real_sweep / str(job)) for job in range(6)]
    spec = spec_of(real_sweep)

    (group,) = {run.run["run_group"] for run in runs}
    assert {grid["runSets"][0]["filters"]["filters"][0]["value"] for grid in grids(spec)} == {group}
    assert group == f"small-{real_sweep.name}"
    assert [run.exit_code for run in runs] == [0] * 6
    for job, run in enumerate(runs):
        metrics = json.loads((real_sweep / str(job) / "metrics.json").read_text())
        assert run.summary["mae_ms"] == metrics["mae_ms"]
    settings = [(run.config["prompt_set"]["name"], run.config["regressor"]["alpha"]) for run in runs]
    assert settings == [(name, alpha) for name in ("short", "chat") for alpha in (0.1, 1, 10)]
    assert "6 jobs of **small**: 6 done." in text_of(spec)
    _assert_logged(set(_keys(spec)), runs[0])


def _keys(spec: dict[str, Any]) -> Iterator[str]:
    for config_ in panels(spec, "Scatter Plot"):
        yield from (config_["xAxis"], config_["yAxis"])
    for config_ in panels(spec, "Bar Chart"):
        yield from (f"config:{config_['groupBy']}", *(f"summary:{name}" for name in config_["metrics"]))
    for config_ in panels(spec, "Parallel Coordinates Plot"):
        yield from (column["accessor"] for column in config_["columns"])
    for config_ in panels(spec, "Media Browser"):
        yield from (f"summary:{key}" for key in config_["mediaKeys"])
    for config_ in panels(spec, "Vega2"):
        (run_sets,) = config_["userQuery"]["queryFields"]
        yield f"summary:{run_sets['fields'][0]['args'][0]['value']}"
    for grid in grids(spec):
        yield from (key for key in grid["runSets"][0]["runFeed"]["columnOrder"])


def test_a_wide_span_of_a_swept_number_is_shown_on_a_logarithm(sweep: Path, jobs: pd.DataFrame):
    scatters = panels(offline(sweep, jobs), "Scatter Plot")

    assert [config_["xAxisLogScale"] for config_ in scatters] == [True, True]
    assert scatters[1]["yAxis"] == "summary:coefficients/context_length/scaled_ms"


def test_a_hundred_alphas_are_a_table_of_thirty_rows_at_most(sweep: Path, jobs: pd.DataFrame):
    many = pd.concat([jobs.head(1)] * 100, ignore_index=True)
    many["regressor.alpha"] = range(1, 101)
    text = text_of(offline(sweep, many.drop(columns="prompt_set")))

    assert "25 of 100 settings, evenly spaced" in text
    assert "and 88 more" in text


@pytest.mark.parametrize("left", [["job", "status"], ["job", "status", "overrides", "mae_ms"]])
def test_columns_that_are_missing_are_left_out(sweep: Path, jobs: pd.DataFrame, left: list[str]):
    assert later(sweep) in publish(config(), sweep, jobs[left])
    assert len(grids(spec_of(sweep))) == 4


def test_a_sweep_of_which_no_job_is_left_is_reported_too(sweep: Path, jobs: pd.DataFrame):
    lost = jobs[jobs["status"] == "failed"]
    assert later(sweep) in publish(config(), sweep, lost)
    assert "No job has a result." in text_of(spec_of(sweep))
