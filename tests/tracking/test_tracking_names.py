"""What a W&B run is called: by what its rows are, and not by what nothing was measured with."""

from pathlib import Path

import pandas as pd
import pytest
from tracked_runs import ABOUT, RUN_CONFIG, ReadBack, config

from llmlat import tracking
from llmlat.tracking import tables

TABLE_CONFIG = {**RUN_CONFIG, "name": "default", "table": {"path": "a.csv"}, "dataset": None}
TABLE_ABOUT = {
    "experiment": "default",
    "source": "table",
    "model": "a.csv",
    "quantization": "not told",
    "engine": "table",
    "prompt_set": "a.csv",
    "stand_in": False,
}


def test_a_tables_run_is_named_by_its_file(folder: Path) -> None:
    with tracking.start(config(), TABLE_CONFIG, folder) as tracker:
        tracker.log_provenance(TABLE_ABOUT)
    left = ReadBack(folder)
    assert left.run["display_name"] == "default a.csv table"
    assert left.config["model"] == {"name": "a.csv"}
    assert left.config["prompt_set"] == {"name": "a.csv"}
    assert left.config["regressor"] == {"alpha": 1.0}


def test_a_datasets_run_is_named_by_what_was_measured(folder: Path) -> None:
    asked = {**RUN_CONFIG, "dataset": "outputs/datasets/0123"}
    about = {**ABOUT, "quantization": "none", "engine": "no_cache", "prompt_set": "chat"}
    with tracking.start(config(), asked, folder) as tracker:
        tracker.log_provenance(about)
    left = ReadBack(folder)
    assert left.run["display_name"] == "thesis mistral-mini none no_cache chat"
    assert left.config["engine"] == {"name": "no_cache"}


def test_a_long_name_of_an_experiment_is_a_tag_that_w_and_b_takes(folder: Path) -> None:
    name = "n" * 200
    with tracking.start(config(tags=[name, "mine"]), {**RUN_CONFIG, "name": name}, folder):
        pass
    assert ReadBack(folder).run["tags"] == [f"{'n' * 61}...", "mine"]


def test_jobs_of_a_sweep_are_runs_of_their_own_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "fixed123")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").write_text("")
    ids = set()
    for name in ("0", "1", "2"):
        folder = tmp_path / "sweep" / name
        folder.mkdir()
        with tracking.start(config(), RUN_CONFIG, folder):
            pass
        ids.add(ReadBack(folder).run["run_id"])
    assert len(ids) == 3
    assert "fixed123" not in ids


def test_of_thousands_of_columns_a_table_has_those_that_tables_share() -> None:
    own = {f"c{n}": [1.0] for n in range(3000)}
    frame = pd.DataFrame({**own, "request_id": [0], "token_latency_ms": [5.0], "predicted_ms": [4.0]})
    kept = tables.cap_columns(frame)
    assert kept.shape == (1, tables.MAX_COLUMNS)
    assert {"c0", "request_id", "token_latency_ms", "predicted_ms"} <= set(kept)
    assert tables.cap_columns(kept) is kept
