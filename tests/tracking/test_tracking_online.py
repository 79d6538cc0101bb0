import logging
import os
import subprocess
import time
from pathlib import Path

import pytest
from fake_wandb_server import FakeServer
from tracked_runs import ABOUT, RUN_CONFIG, WANDB, ReadBack, config, log_everything, make_rows, said

from llmlat import tracking
from llmlat.config import TrackingMode


def sync(command: str) -> None:
    """Run the command that a tracker has named."""
    environment = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
    subprocess.run(
        command.replace("wandb", str(WANDB), 1), shell=True, check=True, capture_output=True, env=environment
    )


def committed(server: FakeServer) -> set[str]:
    return {
        artifact["artifactTypeName"] for artifact in server.artifacts.values() if artifact.get("committed")
    }


def test_a_run_arrives(folder: Path, server: FakeServer, caplog: pytest.LogCaptureFixture, capfd):
    caplog.set_level(logging.INFO)
    with tracking.start(config(), RUN_CONFIG, folder) as tracker:
        log_everything(tracker, folder)

    ((run_id, run),) = server.runs.items()
    assert tracker.where == f"{server.url}/me/llmlat/runs/{run_id}"
    assert said(caplog) == [f"W&B run     {tracker.where}"]
    assert capfd.readouterr() == ("", "")
    assert run["displayName"] == "thesis mistral-mini int8 eager short"
    assert run["groupName"] == "thesis"
    assert run["tags"] == ["mine", "stand-in", "random-weights"]
    assert '"notices":["mistral-mini stands in"]' in run["config"]
    assert [line["request/index"] for line in server.history if "request/index" in line] == [0, 1, 2, 3]
    assert server.exit_codes == [0]
    assert committed(server) == {"dataset", "predictor", "report", "run_table"}
    assert server.files["dataset-0123456789abcdef/rows/request-000000.parquet"] == b"rows"


def test_nothing_else_than_the_run_is_sent(folder: Path, server: FakeServer):
    with tracking.start(config(), RUN_CONFIG, folder) as tracker:
        tracker.log_request(None, make_rows(1))

    (run_id,) = server.runs
    assert server.paths - {"/graphql", f"/files/me/llmlat/{run_id}/file_stream"} == {
        "/up/wandb-summary.json",
        "/up/config.yaml",
    }


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("death", ["stop", "hang"])
def test_a_server_that_dies_half_way_costs_seconds_and_no_data(
    folder: Path, server: FakeServer, death: str, caplog: pytest.LogCaptureFixture
):
    with tracking.start(config(mode=TrackingMode.online), RUN_CONFIG, folder) as tracker:
        tracker.log_request(None, make_rows(1))
        server.behaviour = "hang" if death == "stop" else death
        if death == "stop":
            server.stop()
        began = time.monotonic()
        log_everything(tracker, folder)
    assert time.monotonic() - began < 20

    assert tracker.where is not None
    assert tracker.where.startswith("wandb sync --include-online '")
    assert all(tracker.where in line for line in said(caplog))
    left = ReadBack(folder)
    assert left.config["provenance"] == ABOUT
    assert left.summary["by_phase/decode/mae_ms"] == 1.5
    assert len(left.table("token_rows")[1]) == 40
    assert set(left.artifacts) == {"dataset", "predictor", "report"}

    if death != "stop":
        server.behaviour = "answer"
        server.artifacts.clear()
        sync(tracker.where)
        assert committed(server) == {"dataset", "predictor", "report", "run_table"}
        assert {"figures", "table", "html"} <= {part for name in server.files for part in name.split("/")}
        assert len(server.runs) == 1


@pytest.mark.usefixtures("impatient")
def test_a_slow_server_that_answers_is_waited_for(folder: Path, server: FakeServer):
    server.upload_delay_s = 0.4
    with tracking.start(config(), RUN_CONFIG, folder) as tracker:
        log_everything(tracker, folder)

    assert server.exit_codes == [0]
    assert "dataset" in committed(server)


@pytest.mark.usefixtures("impatient")
def test_ctrl_c_while_waiting_for_the_server_gets_through(
    folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
):
    tracker = tracking.start(config(), RUN_CONFIG, folder)
    tracker.log_request(None, make_rows(1))
    server.behaviour = "hang"

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmlat.tracking.session.Background.is_over", interrupt)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tracker.finish()
    assert time.monotonic() - began < 5


def test_an_offline_run_can_be_sent_later(folder: Path, server: FakeServer):
    with tracking.start(config(mode=TrackingMode.offline), RUN_CONFIG, folder) as tracker:
        log_everything(tracker, folder)
    assert tracker.where is not None
    sync(tracker.where)

    (run,) = server.runs.values()
    assert run["tags"] == ["mine", "stand-in", "random-weights"]
    assert committed(server) == {"dataset", "predictor", "report", "run_table"}
    assert server.exit_codes == [0]
