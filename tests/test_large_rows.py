"""Rows too many to load: the command line fits them where they lie, and says what the rest is of."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import llmlat
from llmlat.dataset import Dataset

N_GROUPS, ROWS_A_GROUP = 60, 20


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(N_GROUPS), ROWS_A_GROUP)
    prompt = np.repeat(generator.integers(10, 2000, N_GROUPS), ROWS_A_GROUP)
    step = np.tile(np.arange(ROWS_A_GROUP), N_GROUPS)
    seconds = (20 + 0.01 * (prompt + step) + generator.normal(0, 0.1, len(group))) / 1e3
    frame = pd.DataFrame({"request": group, "prompt": prompt, "step": step, "seconds": seconds})
    frame["kind"] = np.where(group % 2, "odd", "even")
    path = tmp_path / "theirs.parquet"
    frame.to_parquet(path)
    return path


def run_of(cli: SimpleNamespace, *arguments: str, split: str = "by_request") -> tuple[dict, Path]:
    run = cli.run(f"split={split}", *arguments)
    assert run.returncode == 0, run.stderr
    (folder,) = cli.folder.glob(f"outputs/{dict(a.split('=', 1) for a in arguments)['name']}/*")
    return json.loads((folder / "metrics.json").read_text()), folder


def table_of(parquet: Path, regressor: str) -> tuple[str, ...]:
    return (
        f"table.path={parquet}",
        "table.latency=seconds",
        "table.unit=s",
        "table.group=[request]",
        "table.columns={prompt_tokens: prompt, context_length: prompt + step}",
        "features.columns=[prompt_tokens,context_length]",
        "table.where='step > 0'",
        f"regressor={regressor}",
    )


def test_physics_is_fitted_on_a_sample_and_tested_on_all(cli: SimpleNamespace, parquet: Path) -> None:
    table = table_of(parquet, "physics")
    whole, _ = run_of(cli, *table, "name=whole")
    large, _ = run_of(cli, *table, "name=large", "large.rows=1000", "large.sample_rows=600")
    assert large["large"]["how"].startswith("sampled by group")
    for name in ("n_events", "n_test", "n_requests"):
        assert large[name] == whole[name]
    for name in ("mae_ms", "rmse_ms", "median_ae_ms"):
        assert large[name] == pytest.approx(whole[name], rel=0.1)


def test_a_table_is_fitted_exactly_where_it_lies(cli: SimpleNamespace, parquet: Path) -> None:
    table = table_of(parquet, "ridge")
    whole, _ = run_of(cli, *table, "name=whole")
    large, folder = run_of(cli, *table, "name=large", "large.rows=1000", "large.sample_rows=400")
    assert whole["large"] is None
    assert large["large"]["how"].startswith("exact")
    assert large["large"]["looked_at"]["n_events"] == pytest.approx(400, abs=ROWS_A_GROUP)
    for name in ("n_events", "n_train", "n_test", "n_requests"):
        assert large[name] == whole[name]
    for name in ("mae_ms", "rmse_ms", "median_ae_ms", "r2", "intercept_per_unit_ms"):
        assert large[name] == pytest.approx(whole[name], rel=1e-6)
    for name, weight in whole["coefficients"].items():
        assert large["coefficients"][name]["per_unit_ms"] == pytest.approx(weight["per_unit_ms"], rel=1e-6)
    assert any("too many to load" in notice for notice in large["notices"])
    assert "too many to load" in (folder / "report.md").read_text()
    step = llmlat.load_predictor(folder).estimate(prompt_tokens=500, context_length=510)
    assert step.is_inside
    assert step.low_ms < 25.1 < step.high_ms


def test_rows_of_a_table_are_drawn_one_by_one_by_their_place_in_the_file(
    cli: SimpleNamespace, parquet: Path
) -> None:
    metrics, _ = run_of(
        cli,
        f"table.path={parquet}",
        "table.latency=seconds",
        "table.unit=s",
        "table.group=[request]",
        "features.columns=[prompt,step]",
        "name=random",
        "large.rows=1000",
        "large.sample_rows=400",
        split="random",
    )
    assert metrics["n_train"] + metrics["n_test"] == N_GROUPS * ROWS_A_GROUP
    assert metrics["n_test"] == pytest.approx(0.2 * N_GROUPS * ROWS_A_GROUP, rel=0.2)
    assert metrics["mae_ms"] == pytest.approx(0.08, rel=0.2)  # noise of 0.1 ms


def test_no_shown_row_was_fitted(cli: SimpleNamespace, parquet: Path) -> None:
    """A nearest neighbour knows the rows that it was fitted on to the last digit."""
    metrics, folder = run_of(
        cli,
        f"table.path={parquet}",
        "table.latency=seconds",
        "table.unit=s",
        "table.group=[request]",
        "features.columns=[prompt,step]",
        "regressor=custom",
        "regressor._target_=sklearn.neighbors.KNeighborsRegressor",
        "+regressor.n_neighbors=1",
        "name=shown",
        "large.rows=1000",
        "large.sample_rows=600",
    )
    shown = pd.read_parquet(folder / "predictions.parquet")
    miss = (shown["token_latency_ms"] - shown["predicted_ms"]).abs()
    assert miss.min() > 0
    assert metrics["large"]["how"].startswith("sampled by group")


def test_other_regressors_are_fitted_on_whole_groups(cli: SimpleNamespace, parquet: Path) -> None:
    metrics, folder = run_of(
        cli,
        f"table.path={parquet}",
        "table.latency=seconds",
        "table.unit=s",
        "table.group=[request]",
        "features.columns=[prompt,step,kind]",
        "regressor=random_forest",
        "regressor.n_estimators=5",
        "name=sampled",
        "large.rows=1000",
        "large.sample_rows=400",
    )
    assert metrics["large"]["how"] == "sampled by group: 20 of 48 requests, 400 of 960 rows"
    assert metrics["n_test"] == 12 * ROWS_A_GROUP
    predictor = llmlat.load_predictor(folder)
    assert predictor.predict(prompt=500, step=3, kind="odd") == pytest.approx(25, abs=3)


def test_a_table_without_groups_is_refused(cli: SimpleNamespace, parquet: Path) -> None:
    run = cli.run(
        f"table.path={parquet}", "table.latency=seconds", "features.columns=[prompt]", "large.rows=1000"
    )
    assert run.returncode == 1
    assert "table.group: none is named" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_dataset_is_fitted_where_it_lies(cli: SimpleNamespace, token_rows) -> None:
    identity = {
        "model": "tiny",
        "weights": "random",
        "stand_in_for": None,
        "quantization": "none",
        "engine": {"name": "eager"},
        "prompt_set": "made-up",
        "hardware": {"name": "cpu"},
        "versions": {},
    }
    dataset = Dataset.create(cli.folder / "datasets", identity, n_requests=20)
    dataset.add_session({"notices": []})
    for request in range(20):
        rows = token_rows(request, n_tokens=6, prompt_tokens=10 * (1 + request))
        doubtful = "throttled" if request == 3 else ""
        slow = 100.0 * (request == 3)
        latency_ms = 5 + 0.1 * rows["context_length"] + slow
        dataset.append_request(request, rows.assign(token_latency_ms=latency_ms, flags=doubtful))
    found = {}
    for name, rows in (("whole", 10**9), ("large", 1)):
        arguments = (
            f"dataset={dataset.folder}",
            f"name={name}",
            f"large.rows={rows}",
            "large.sample_rows=60",
        )
        found[name], _ = run_of(cli, *arguments)
    assert found["large"]["large"]["looked_at"]["n_events"] == 60
    assert found["large"]["n_events"] == found["whole"]["n_events"] == 120
    assert found["large"]["coefficients"]["context_length"]["scaled_ms"] == pytest.approx(
        found["whole"]["coefficients"]["context_length"]["scaled_ms"], rel=1e-9
    )
