"""A row a job, whatever became of it: done, failed, killed, damaged, or older than outcome files."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sweep_metrics import metrics_of

from llmlat.errors import DatasetError
from llmlat.jobs.folder import SweepFolder
from llmlat.sweep import read_jobs
from llmlat.sweep.frame import swept_in

MakeJob = Callable[..., Path]


def test_a_sweep_is_a_row_a_job(grid: Path) -> None:
    jobs = read_jobs(grid)
    assert list(jobs["job"]) == list("012345")
    assert set(jobs["status"]) == {"done"}
    assert jobs["overrides"][4] == "prompt_set=chat alpha=1"
    assert list(jobs.columns[:5]) == ["job", "status", "overrides", "prompt_set", "regressor.alpha"]
    assert swept_in(jobs) == ["prompt_set", "regressor.alpha"]
    first = jobs.iloc[0]
    assert (first["mae_ms"], first["validation_mae_ms"], first["validation_rmse_ms"]) == (0.7, 1.0, 2.0)
    assert (first["by_request_mae_ms"], first["noise_floor_mae_ms"], first["intercept_ms"]) == (
        1.3,
        0.3,
        30.0,
    )
    assert (first["scaled_ms.context_length"], first["per_unit_ms.prompt_tokens"]) == (-0.5, 0.01)
    assert (first["seed"], first["seconds"], first["device"]) == (7, 1.5, "a machine")
    assert (first["dataset_key"], first["weights"], first["stand_in"]) == (
        "key-of-short",
        "pretrained",
        False,
    )
    assert list(jobs["regressor.alpha"]) == [0.1, 1, 10] * 2
    assert jobs.columns.is_unique


def test_failed_killed_and_older_jobs_have_their_rows(make_job: MakeJob) -> None:
    failure = {"error_class": "ConfigError", "message": "x: no", "traceback_tail": ["a", "b"], "seconds": 0.5}
    make_job(0, ["regressor.alpha=-1"], failed=failure)
    make_job(1, ["regressor.alpha=1"], failed={**failure, "traceback_tail": "a\nb"})
    make_job(2, ["regressor.alpha=2"])
    jobs = read_jobs(make_job(3, ["regressor.alpha=3"], metrics_of()))
    assert list(jobs["status"]) == ["failed", "failed", "killed", "done"]
    assert list(jobs["error_class"].dropna()) == ["ConfigError"] * 2
    assert list(jobs["traceback_tail"].dropna()) == ["a\nb"] * 2
    assert (jobs["error"][0], jobs["seconds"][0]) == ("x: no", 0.5)
    assert jobs["mae_ms"].notna().tolist() == [False, False, False, True]
    assert list(jobs["regressor.alpha"]) == [-1, 1, 2, 3]


def test_a_job_that_was_run_again_is_what_it_became(make_job: MakeJob) -> None:
    failure = {"error_class": "E", "message": "m", "traceback_tail": [], "seconds": 1}
    jobs = read_jobs(make_job(0, ["a=1"], metrics_of(), done={"config": {}, "seconds": 2}, failed=failure))
    assert list(jobs["status"]) == ["done"]
    folder = make_job(1, ["a=2"], metrics_of(), failed=failure)
    assert list(read_jobs(folder)["status"]) == ["done", "failed"], "metrics of an earlier try do not count"


def test_where_a_sweep_keeps_outcomes_only_done_json_means_done(make_job: MakeJob) -> None:
    make_job(0, ["a=1"], metrics_of(), done={"config": {}, "seconds": 2})
    folder = make_job(1, ["a=2"], metrics_of())
    assert list(read_jobs(folder)["status"]) == ["done", "done"], "an older sweep"
    SweepFolder(folder).begin_command(None, ["a"])
    log = "2026-01-01 10:00:00,000 ERROR llmlat: error: of an earlier try\n"
    (folder / "1" / "llmlat.log").write_text(log)
    jobs = read_jobs(folder)
    assert list(jobs["status"]) == ["done", "killed"]
    assert jobs["mae_ms"].isna().tolist() == [False, True]
    assert jobs["error"].isna().all()


def test_jobs_that_were_never_begun_have_rows_with_their_overrides(make_job: MakeJob) -> None:
    folder = make_job(0, ["+experiment=e", "regressor.alpha=1"], metrics_of(), done={"config": {}})
    sweep = SweepFolder(folder)
    alphas = ("10", "1", "1e2", "3")
    planned = [["+experiment=e", f"regressor.alpha={alpha}"] for alpha in alphas]
    sweep.begin_command(planned, ["regressor.alpha"])
    # 1 was run by an earlier command, and has not had its turn in this one; 10 has a folder, and no more.
    assert sweep.subfolder(0, {"alpha": 10}) == "1"
    sweep.note_lost(3, ["its process was killed", "line 1", "line 2"])
    jobs = read_jobs(folder)
    assert swept_in(jobs) == ["regressor.alpha"]
    assert list(jobs["job"]) == ["0", "1", "2", "3"]
    assert list(jobs["regressor.alpha"]) == [1, 10, 100, 3]
    assert list(jobs["status"]) == ["done", "not begun", "not begun", "killed"]
    assert (jobs["error"][3], jobs["traceback_tail"][3]) == ("its process was killed", "line 1\nline 2")
    sweep.begin_command([], [])
    assert list(read_jobs(folder)["job"]) == ["0"], "another command, without them"


def test_a_sweep_of_which_nothing_was_begun_is_known_too(tmp_path: Path) -> None:
    SweepFolder(tmp_path).begin_command([["a=1"], ["a=2"]], ["a"])
    assert list(read_jobs(tmp_path)["status"]) == ["not begun"] * 2


def test_a_damaged_result_costs_only_its_own_job(make_job: MakeJob) -> None:
    make_job(0, ["a=1"], metrics_of())
    folder = make_job(1, ["a=2"], metrics_of(), done={"config": {}, "mae_ms": 1.0, "seconds": 1})
    (folder / "1" / "metrics.json").write_text('{"mae_ms": 1.')
    (folder / "1" / ".hydra" / "config.yaml").write_text("seed: [")
    jobs = read_jobs(folder)
    assert list(jobs["status"]) == ["done", "failed"]
    assert "metrics.json" in jobs["error"][1]


def test_an_older_failure_is_read_from_its_log(make_job: MakeJob) -> None:
    folder = make_job(0, ["a=1"])
    line = "2026-01-01 10:00:00,000 ERROR llmlat: error: dataset=x: missing\n"
    (folder / "0" / "llmlat.log").write_text(f"2026-01-01 10:00:00,000 INFO llmlat: hello\n{line}")
    jobs = read_jobs(folder)
    assert (jobs["status"][0], jobs["error"][0]) == ("failed", "dataset=x: missing")


def test_jobs_are_found_in_any_folder_in_their_order(make_job: MakeJob) -> None:
    for name in ("b/10", "b/9", "a/0"):
        folder = make_job(name, [f"seed={len(name)}"], metrics_of())
    assert list(read_jobs(folder)["job"]) == ["a/0", "b/9", "b/10"]
    assert list(read_jobs(folder / "b")["job"]) == ["9", "10"]


def test_a_swept_seed_is_one_column(make_job: MakeJob) -> None:
    make_job(0, ["seed=1", "prompt_set=short"], metrics_of())
    jobs = read_jobs(make_job(1, ["seed=2", "prompt_set=short"], metrics_of()))
    assert swept_in(jobs) == ["seed"]
    assert list(jobs["seed"]) == [1, 2]
    assert jobs.columns.is_unique


def test_values_of_mixed_kinds_are_text(make_job: MakeJob) -> None:
    make_job(0, ["regressor.max_iter=null"], metrics_of())
    make_job(1, ["regressor.max_iter=all"], metrics_of())
    jobs = read_jobs(make_job(2, ["regressor.max_iter=3"], metrics_of()))
    assert jobs["regressor.max_iter"].tolist() == ["null", "all", "3"]


def test_a_regressor_without_coefficients(make_job: MakeJob) -> None:
    nothing = metrics_of(
        coefficients=None, intercept_ms=None, noise_floor=None, validation=None, stand_in=True
    )
    jobs = read_jobs(make_job(0, ["a=1"], nothing))
    assert not [name for name in jobs if str(name).startswith("scaled_ms")]
    assert jobs[["intercept_ms", "noise_floor_mae_ms", "validation_mae_ms"]].isna().all(axis=None)
    assert bool(jobs["stand_in"][0]) is True


def test_a_table_survives_parquet_and_csv(grid: Path, tmp_path: Path) -> None:
    jobs = read_jobs(grid)
    jobs.to_parquet(tmp_path / "jobs.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "jobs.parquet"), jobs)
    again = pd.read_csv(io.StringIO(jobs.to_csv(index=False)))
    assert list(again["mae_ms"]) == list(jobs["mae_ms"])


def test_nothing_to_read_is_one_line(tmp_path: Path, make_job: MakeJob) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: no such folder"):
        read_jobs(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"no job is below it"):
        read_jobs(tmp_path)
    with pytest.raises(DatasetError, match=r"no job is below it"):
        read_jobs(make_job(0, ["a=1"], metrics_of()) / "0")


def test_a_real_sweep_is_read_back(real_sweep: Path) -> None:
    jobs = read_jobs(real_sweep)
    assert len(jobs) == 6
    assert set(jobs["status"]) == {"done"}
    assert swept_in(jobs) == ["prompt_set", "regressor.alpha"]
    assert jobs.groupby("prompt_set")["dataset_key"].nunique().tolist() == [1, 1], "measured once each"
    assert jobs["validation_mae_ms"].notna().all()
    assert jobs["scaled_ms.context_length"].nunique() == 6
    assert (jobs["weights"] == "random").all()
