"""A sweep's W&B report against a server that answers, and one that does not."""

import os
import shlex
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from fake_wandb_server import FakeServer
from tracked_runs import WANDB, config
from tracked_sweeps import GROUP, grids, later, offline, spec_of, track_jobs

from llmlat.config import TrackingMode
from llmlat.tracking import team_report
from llmlat.tracking.team_report import main, publish


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
