"""A sweep's W&B report: kept with the command that publishes it, or one line why there is none."""

import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tracked_runs import config
from tracked_sweeps import later, offline, spec_of, track_jobs

from llmlat.config import TrackingConfig, TrackingMode, TrackingName
from llmlat.tracking.team_report import main, publish


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
