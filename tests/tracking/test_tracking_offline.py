import logging
import os
from pathlib import Path

import pytest
import wandb
from fake_wandb_server import FakeServer
from tracked_runs import (
    ABOUT,
    METRICS,
    RUN_CONFIG,
    SVG,
    ReadBack,
    config,
    fill,
    log_everything,
    make_rows,
    said,
    script,
)

from llmlat import tracking
from llmlat.config import TrackingConfig, TrackingMode, TrackingName
from llmlat.errors import ConfigError
from llmlat.tracking import contents
from llmlat.tracking.run_note import read_notes


@pytest.fixture
def left(folder: Path) -> ReadBack:
    """A whole offline run, of which the tables hold no more than 25 rows."""
    with tracking.start(config(max_table_rows=25), RUN_CONFIG, folder) as tracker:
        log_everything(tracker, folder)
    return ReadBack(folder)


def test_a_whole_run_is_on_disk(left: ReadBack, folder: Path):
    assert left.run["display_name"] == "thesis mistral-mini int8 eager short"
    assert left.run["project"] == "llmlat"
    assert left.run["run_group"] == "thesis"
    assert left.run["tags"] == ["mine", "stand-in", "random-weights"]
    assert left.config["regressor"] == {"alpha": 1.0}
    assert left.config["model"]["name"] == "mistral-mini"
    assert left.config["provenance"] == ABOUT
    assert left.summary["by_phase/decode/mae_ms"] == METRICS["mae_ms"]
    assert left.exit_code == 0

    requests = [item for item in left.history if "request/index" in item]
    assert [item["request/index"] for item in requests] == [0, 1, 2, 3]
    assert requests[0]["request/median_itl_ms"] == 15.0
    assert not any(key.startswith("request/") for key in left.summary)

    columns, rows = left.table("token_rows")
    assert columns == list(make_rows().columns)
    assert [row[0] for row in rows] == [0] * 10 + [2] * 10
    assert (left.summary["token_rows_logged"], left.summary["token_rows_total"]) == (20, 40)
    assert len(left.table("prediction_rows")[1]) == left.summary["prediction_rows_total"] == 4
    assert left.table("baselines")[1][1][:3] == ["mean", 4, 9]
    assert left.table("coefficients")[1][0][0] == "context_length"

    assert left.media("figures/coefficients").read_text(encoding="utf-8") == SVG
    assert left.media("report").read_text(encoding="utf-8") == (folder / "report.html").read_text("utf-8")


def test_dataset_predictor_and_report_are_artifacts_of_files_left_where_they_are(
    left: ReadBack, folder: Path
):
    names = {kind: artifact["name"] for kind, artifact in left.artifacts.items()}
    assert names == {
        "dataset": "dataset-0123456789abcdef",
        "predictor": "predictor-thesis",
        "report": "report-thesis",
    }
    assert sorted(left.files("dataset")) == ["provenance.json", "rows/request-000000.parquet"]
    assert left.files("predictor") == {"predictor.json": str(folder / "predictor.json")}
    assert sorted(left.files("report")) == ["figures/coefficients.svg", "report.html", "report.md"]
    assert '"stand_in":true' in left.artifacts["predictor"]["metadata"].replace(" ", "")


def test_nothing_is_written_outside_the_run_folder(left: ReadBack, home: Path):
    found = [path for path in home.rglob("*") if path.is_file() and "matplotlib" not in path.parts]
    assert found == []
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["a run", "datasets", "home"]
    # Nor does the environment stay changed.
    assert [name for name in os.environ if name.startswith("WANDB_")] == ["WANDB_BASE_URL"]


def test_it_says_in_one_line_how_to_send_it_and_in_another_what_was_capped(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.INFO)
    with tracking.start(config(max_table_rows=25), RUN_CONFIG, folder) as tracker:
        assert tracker.where is not None
        assert tracker.where.startswith("wandb sync '")
        log_everything(tracker, folder)

    assert said(caplog) == [
        f"W&B offline: no API key (WANDB_API_KEY, or `wandb login`). To send it later: {tracker.where}",
        "W&B tables hold 20 of 40 token rows: whole requests, evenly spaced (tracking.max_table_rows); "
        "the dataset artifact holds all.",
    ]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_raises_is_marked_as_failed(folder: Path, error: type[BaseException]):
    def broken_run() -> None:
        with tracking.start(config(), RUN_CONFIG, folder) as tracker:
            tracker.log_request(None, make_rows(1))
            raise error

    with pytest.raises(error):
        broken_run()

    left = ReadBack(folder)
    assert left.exit_code == 1
    assert len(left.history) == 1


def test_what_cannot_be_logged_warns_once_and_the_run_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object) -> None:
        raise OSError("disk\nfull")

    monkeypatch.setattr(contents, "pictures", fail)
    with tracking.start(config(), RUN_CONFIG, folder) as tracker:
        tracker.log_request(None, make_rows(1).drop(columns="phase"))
        tracker.log_request(None, make_rows(1).drop(columns="phase"))
        log_everything(tracker, folder)

    assert said(caplog) == [
        "W&B: a request not logged: 'phase'. The run goes on.",
        "W&B: figures not logged: disk full. The run goes on.",
    ]
    left = ReadBack(folder)
    assert left.summary["mae_ms"] == 1.5
    assert set(left.artifacts) == {"dataset", "predictor", "report"}


def test_jobs_of_a_sweep_follow_each_other_in_one_process(tmp_path: Path):
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        with tracking.start(config(), RUN_CONFIG, folder) as tracker:
            tracker.log_request(None, make_rows(1))
            tracker.finish()

    runs = [ReadBack(folder).run["run_id"] for folder in folders]
    assert runs[0] != runs[1]


def test_the_runs_of_a_sweep_share_a_group_of_their_own(tmp_path: Path):
    groups = []
    for sweep, job in [("09-00", "0"), ("09-00", "1"), ("10-00", "0")]:
        folder = tmp_path / sweep / job
        folder.mkdir(parents=True)
        (tmp_path / sweep / "multirun.yaml").touch()  # Hydra's own mark of a sweep's folder.
        with tracking.start(config(), RUN_CONFIG, folder):
            pass
        groups.append(ReadBack(folder).run["run_group"])

    assert groups == ["thesis-09-00", "thesis-09-00", "thesis-10-00"]


@pytest.mark.parametrize("in_sweep", [False, True])
def test_a_sweeps_job_on_a_measured_dataset_logs_only_what_runs_are_compared_by(folder: Path, in_sweep: bool):
    rows, dataset = make_rows(), fill(folder)
    figures = dict.fromkeys(("coefficients", "request_trace"), SVG)
    if in_sweep:
        (folder.parent / "multirun.yaml").touch()
    with tracking.start(config(), RUN_CONFIG, folder) as tracker:
        tracker.log_provenance(ABOUT)
        tracker.log_result(METRICS, rows, rows.head(4), figures, dataset)

    left = ReadBack(folder)
    logged = {key.split(".")[0] for key in left.summary}
    assert "figures/coefficients" in logged
    assert ("figures/request_trace" in logged) is not in_sweep
    assert any("token_rows" in key for key in logged) is not in_sweep
    assert left.summary["prediction_rows_total"] == 4
    assert "dataset" in left.artifacts


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_the_run_folder_says_which_run_it_was_and_whether_it_has_arrived(
    folder: Path, mode: str, server: FakeServer
):
    with tracking.start(config(mode=TrackingMode(mode)), RUN_CONFIG, folder) as tracker:
        tracker.log_request(None, make_rows(1))
        assert not read_notes(folder)[0].is_sent

    (note,) = read_notes(folder)
    assert (note.project, note.group, note.is_sent) == ("llmlat", "thesis", mode == "online")
    assert tracker.where == (note.url if mode == "online" else note.sync)
    assert note.entity == ("me" if mode == "online" else None)
    moved = folder.rename(folder.with_name("moved"))
    assert Path(read_notes(moved)[0].folder).parent == moved / "wandb"


def test_a_run_that_the_caller_has_open_stays_theirs(tmp_path: Path, folder: Path):
    quiet = wandb.Settings(
        silent=True, console="off", x_disable_stats=True, root_dir=str(tmp_path / "theirs")
    )
    theirs = wandb.init(mode="offline", project="theirs", settings=quiet)
    try:
        with tracking.start(config(), RUN_CONFIG, folder) as tracker:
            tracker.log_request(None, make_rows(1))
        assert wandb.run is theirs
        theirs.log({"still": "open"})
        theirs.finish()
        assert ReadBack(tmp_path / "theirs").history[-1]["still"] == "open"
        assert ReadBack(folder).run["project"] == "llmlat"
    finally:
        wandb.teardown()


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"project": "a/b"}, "project"), ({"tags": ["t" * 65]}, "[Tt]ag")],
)
def test_a_setting_that_wandb_refuses_is_one_line_before_measuring(folder: Path, changes: dict, named: str):
    with pytest.raises(ConfigError, match=named) as caught:
        tracking.start(config(**changes), RUN_CONFIG, folder)
    assert "\n" not in str(caught.value)


def test_a_base_url_that_is_none_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_BASE_URL", "not a url")
    with pytest.raises(ConfigError, match=r"tracking.*tracking=none") as caught:
        tracking.start(config(), RUN_CONFIG, folder)
    assert "\n" not in str(caught.value)


def test_a_killed_run_leaves_what_it_logged(folder: Path):
    process = script(
        f"""
import time
from pathlib import Path
from tracked_runs import ABOUT, RUN_CONFIG, config, make_rows
from llmlat import tracking
tracker = tracking.start(config(), RUN_CONFIG, Path({str(folder)!r}))
tracker.log_provenance(ABOUT)
for _, rows in make_rows(3).groupby("request_id"):
    tracker.log_request(None, rows)
time.sleep(1.5)
print("logged", flush=True)
time.sleep(60)
"""
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "logged\n"
        process.kill()

    left = ReadBack(folder)
    assert [item["request/index"] for item in left.history] == [0, 1, 2]
    assert left.config["provenance"]["stand_in"] is True
    assert left.exit_code is None


def test_the_null_tracker_leaves_nothing(folder: Path):
    with tracking.start(TrackingConfig(name=TrackingName.none), RUN_CONFIG, folder) as tracker:
        tracker.log_request(None, make_rows(1))
        tracker.log_provenance(ABOUT)
        tracker.log_result(METRICS, make_rows(1), make_rows(1), {}, None)
        tracker.finish(1)

    assert tracker.where is None
    assert list(folder.iterdir()) == []


def test_offline_by_choice_asks_no_server(folder: Path, server):
    with tracking.start(config(mode=TrackingMode.offline), RUN_CONFIG, folder) as tracker:
        log_everything(tracker, folder)

    assert server.paths == set()
    assert "dataset" in ReadBack(folder).artifacts
