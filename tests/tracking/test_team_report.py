import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_wandb_server import FakeServer
from tracked_runs import WANDB, ReadBack, config
from tracked_sweeps import OVERRIDES, make_sweep, track_jobs

from llmlat.config import TrackingConfig, TrackingMode, TrackingName
from llmlat.tracking import report_spec, team_report
from llmlat.tracking.team_report import main, publish

GROUP = "thesis-2026-11-22 09-00"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Where a sweep will be, with a space in its name."""
    return tmp_path / "multirun_sweeps" / "thesis_sweep" / "2026-11-22 09-00"


@pytest.fixture
def jobs(sweep: Path) -> pd.DataFrame:
    return make_sweep(sweep)


def spec_of(sweep: Path) -> dict[str, Any]:
    return json.loads((sweep / "wandb_report.json").read_text(encoding="utf-8"))


def text_of(spec: dict[str, Any]) -> str:
    return "\n".join(
        block["content"] for block in spec["spec"]["blocks"] if block["type"] == "markdown-block"
    )


def grids(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in spec["spec"]["blocks"] if block["type"] == "panel-grid"]


def panels(spec: dict[str, Any], view: str) -> list[dict[str, Any]]:
    found = [panel for grid in grids(spec) for panel in grid["panelBankSectionConfig"]["panels"]]
    return [panel["config"] for panel in found if panel["viewType"] == view]


def later(sweep: Path) -> str:
    return f"To publish it later: python -m llmlat.tracking.team_report {shlex.quote(str(sweep))}"


def offline(sweep: Path, jobs: pd.DataFrame) -> dict[str, Any]:
    publish(config(mode=TrackingMode.offline), sweep, jobs)
    return spec_of(sweep)


def test_without_a_key_the_spec_is_kept_with_the_command_that_publishes_it(sweep: Path, jobs: pd.DataFrame):
    line = publish(config(), sweep, jobs)

    assert line == (
        "W&B report  not published: no API key (WANDB_API_KEY, or `wandb login`). " + later(sweep)
    )
    assert spec_of(sweep)["displayName"] == "thesis_sweep: sweep 2026-11-22 09-00"
    assert sorted(path.name for path in sweep.iterdir() if not path.is_dir()) == [
        "multirun.yaml",
        "wandb_report.json",
    ]


def test_where_online_is_insisted_on_and_cannot_be_had_the_spec_is_kept_too(sweep: Path, jobs: pd.DataFrame):
    line = publish(config(mode=TrackingMode.online), sweep, jobs)

    assert line.startswith("W&B report  not published: tracking.mode=online")
    assert line.endswith(later(sweep))
    assert spec_of(sweep)["project"]["name"] == "llmlat"


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


def test_online_it_is_saved_and_its_address_returned(
    sweep: Path, jobs: pd.DataFrame, server: FakeServer, capfd: pytest.CaptureFixture[str]
):
    track_jobs(sweep, jobs.head(1))
    line = publish(config(), sweep, jobs)

    ((report_id, sent),) = server.reports.items()
    assert line == (
        f"W&B report  {server.url}/me/llmlat/reports/thesis_sweep:-sweep-2026-11-22-09-00--{report_id}"
    )
    assert capfd.readouterr() == ("", "")
    assert (sent["entityName"], sent["projectName"], sent["type"]) == ("me", "llmlat", "runs")
    for grid in grids({"spec": sent["spec"]}):
        assert grid["runSets"][0]["project"] == {"name": "llmlat", "entityName": "me", "id": "7"}
    assert {run["groupName"] for run in server.runs.values()} == {GROUP}
    assert not [name for name in os.environ if name in {"WANDB_DATA_DIR", "WANDB_CACHE_DIR"}]


def test_published_once_more_it_replaces_itself(sweep: Path, jobs: pd.DataFrame, server: FakeServer):
    server.runs["a"] = {"project": "llmlat"}
    first, second = publish(config(), sweep, jobs), publish(config(), sweep, jobs)

    assert first == second
    assert main([str(sweep)]) == 0
    assert len(server.reports) == 1
    assert server.operations.count("upsertView") == 3


def test_runs_that_a_published_report_lacks_are_counted(sweep: Path, jobs: pd.DataFrame, server: FakeServer):
    track_jobs(sweep, jobs.head(2), TrackingMode.offline)
    server.runs["a"] = {"project": "llmlat"}
    line = publish(config(), sweep, jobs)

    command = later(sweep).removeprefix("To publish it later: ")
    assert line.startswith("W&B report  http://127.0.0.1:")
    assert line.endswith(f" lacks 2 of 2 runs, not sent yet; how to send them: {command}")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("behaviour", ["hang_reports", "die_at_reports", "hang"])
def test_a_server_that_fails_costs_seconds_and_the_spec_is_kept(
    sweep: Path, jobs: pd.DataFrame, server: FakeServer, behaviour: str, monkeypatch: pytest.MonkeyPatch
):
    server.runs["a"] = {"project": "llmlat"}
    server.behaviour = behaviour
    # Where it answers all else, only the last limit ends it.
    monkeypatch.setattr(team_report, "SEND_LIMIT_S", 1.0)
    began = time.monotonic()
    line = publish(config(entity="me"), sweep, jobs)

    assert time.monotonic() - began < 10
    assert line.startswith("W&B report  not published: ")
    assert line.endswith(later(sweep))
    assert "\n" not in line
    assert len(grids(spec_of(sweep))) == 4


def test_a_project_that_is_not_there_yet_is_said(sweep: Path, jobs: pd.DataFrame, server: FakeServer):
    line = publish(config(), sweep, jobs)

    assert line == (
        "W&B report  not published: there is no project me/llmlat yet; send the runs first. " + later(sweep)
    )


def test_what_was_kept_offline_is_published_by_the_commands_that_were_named(
    sweep: Path, jobs: pd.DataFrame, server: FakeServer, capfd: pytest.CaptureFixture[str]
):
    track_jobs(sweep, jobs.head(4), TrackingMode.offline)
    offline(sweep, jobs)
    assert server.paths == set()

    assert main([str(sweep)]) == 1
    out, errors = capfd.readouterr()
    said, command = out.splitlines()
    assert said == "4 of 4 runs have not been sent; panels lack them until:"
    assert command.strip() == f"wandb sync {shlex.quote(str(sweep))}/*/wandb/offline-run-*"
    assert errors == "error: there is no project me/llmlat yet; send the runs first.\n"

    environment = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
    run = command.strip().replace("wandb", str(WANDB), 1)
    subprocess.run(run, shell=True, check=True, capture_output=True, env=environment)
    assert main([str(sweep)]) == 0
    out, errors = capfd.readouterr()
    assert (out.startswith(f"W&B report  {server.url}/me/llmlat/reports/"), errors) == (True, "")
    assert len(server.runs) == 4
    assert spec_of(sweep)["id"] in server.reports


def test_few_runs_are_named_one_by_one(sweep: Path, jobs: pd.DataFrame, capfd: pytest.CaptureFixture[str]):
    track_jobs(sweep, jobs.head(1))
    offline(sweep, jobs)
    assert main([str(sweep)]) == 1

    (folder,) = sweep.glob("0/wandb/offline-run-*")
    out, errors = capfd.readouterr()
    assert out.splitlines()[1:] == [f"  wandb sync {shlex.quote(str(folder))}"]
    assert errors == "error: no API key (WANDB_API_KEY, or `wandb login`).\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no W&B run and no wandb_report.json is in it"), ("{", "not a report's spec")],
)
def test_a_folder_without_a_spec_is_one_line(
    tmp_path: Path, content: str | None, said: str, capfd: pytest.CaptureFixture[str]
):
    if content is not None:
        (tmp_path / "wandb_report.json").write_text(content)
    assert main([str(tmp_path)]) == 1
    out, errors = capfd.readouterr()
    assert out == ""
    assert errors.startswith("error: ")
    assert said in errors
    assert errors.count("\n") == 1


def test_a_folder_that_is_not_there_is_one_line(capfd: pytest.CaptureFixture[str]):
    assert main(["nowhere"]) == 1
    assert capfd.readouterr().err.startswith("error: nowhere: no such folder")


def test_tracking_none_reports_nothing(sweep: Path, jobs: pd.DataFrame):
    assert publish(TrackingConfig(name=TrackingName.none), sweep, jobs) == ""
    assert not (sweep / "wandb_report.json").exists()


def test_wandb_disabled_reports_nothing(sweep: Path, jobs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert publish(config(), sweep, jobs) == ""
    assert not (sweep / "wandb_report.json").exists()


def test_without_wandb_workspaces_it_names_the_extra_and_writes_nothing(
    sweep: Path, jobs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)

    assert publish(config(), sweep, jobs) == (
        "W&B report  not made: wandb-workspaces is not installed; pip install 'llmlat[reports]'."
    )
    assert not (sweep / "wandb_report.json").exists()


def test_the_command_is_a_module_that_runs(sweep: Path):
    command = [sys.executable, "-m", "llmlat.tracking.team_report", str(sweep)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {sweep}: no such folder")
