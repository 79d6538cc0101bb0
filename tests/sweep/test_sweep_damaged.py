"""A sweep of which one job left something damaged or hostile: it costs that job, and says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweep_metrics import metrics_of

from llmlat.sweep import read_jobs, summarise, terminal_lines

MakeJob = Callable[..., Path]

DAMAGED = {
    "mae_ms": ["x", None, [1], float("inf")],
    "coefficients": [[1], "x", {"a": 1}, {"a": {"scaled_ms": "x"}}],
    "splits": [[1]],
    "noise_floor": ["x"],
    "regressor": ["x"],
    "model": [[1]],
    "stand_in": ["maybe", 2],
    "validation": [5],
    "baselines": ["x"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in DAMAGED for value in DAMAGED[key]])
def test_damaged_results_cost_only_their_job(make_job: MakeJob, key: str, value: Any) -> None:
    for number in range(3):
        metrics = metrics_of(mae_ms=1.0 + number)
        metrics = {**metrics, **({key: value} if number == 1 else {})}
        folder = make_job(
            number, [f"regressor.alpha={number}"], metrics, {"config": {"seed": 7}, "seconds": 1.0}
        )
    summary = summarise(folder)
    assert summary.jobs["status"].tolist() == ["done", "failed", "done"]
    assert "damaged" in summary.jobs["error"][1]
    assert terminal_lines(summary)


@pytest.mark.parametrize("said", [{"seconds": "x"}, {"config": [1]}, {"config": {"seed": "x"}}])
def test_a_damaged_outcome_costs_only_its_job(make_job: MakeJob, said: dict[str, Any]) -> None:
    for number in range(2):
        done = {"config": {"seed": 7}, "seconds": 1.0, **(said if number else {})}
        folder = make_job(number, [f"regressor.alpha={number}"], metrics_of(mae_ms=1.0), done)
    assert summarise(folder).jobs["status"][0] == "done"


@pytest.mark.parametrize("overrides", ["5\n", "{a: 1}\n", "text\n", ""])
def test_overrides_that_are_no_list_are_none(make_job: MakeJob, overrides: str) -> None:
    for number in range(2):
        folder = make_job(number, ["a=1"], metrics_of(mae_ms=1.0), {"config": {}, "seconds": 1.0})
    (folder / "1" / ".hydra" / "overrides.yaml").write_text(overrides)
    assert len(summarise(folder).jobs) == 2


def test_nothing_is_chosen_across_data(make_job: MakeJob) -> None:
    for number in range(4):
        error, key = (1.0 + number, "before") if number < 2 else (0.1 * number, "after")
        metrics = metrics_of(mae_ms=error, validation={"mae_ms": error, "rmse_ms": error}, dataset_key=key)
        folder = make_job(number, [f"regressor.alpha={number}"], metrics, {"config": {}, "seconds": 1.0})
    summary = summarise(folder)
    assert [(choice.data["dataset_key"], choice.jobs) for choice in summary.choices] == [
        ("before", ("0",)),
        ("after", ("2",)),
    ]
    assert "Of 4 settings" not in summary.sentence
    assert any("Measured more than once" in line for line in terminal_lines(summary))


def test_no_cell_is_computed_and_no_terminal_steered(make_job: MakeJob) -> None:
    metrics = metrics_of(mae_ms=1.0, model="=1+1", device="\x1b]0;x\x07cpu", prompt_set="@SUM(1)")
    folder = make_job(0, ["a=1"], metrics, {"config": {}, "seconds": 1.0})
    make_job(1, ["a=2"], metrics, {"config": {}, "seconds": 1.0})
    lines = terminal_lines(summarise(folder))
    assert not any("\x1b]" in line for line in lines)
    read = pd.read_csv(folder / "sweep.csv")
    assert read["model"].tolist() == ["'=1+1"] * 2
    assert read["prompt_set"].tolist() == ["'@SUM(1)"] * 2
    assert "\x1b" not in (folder / "sweep.csv").read_text()
    assert json.loads((folder / "0" / "metrics.json").read_text())["model"] == "=1+1"
    assert read_jobs(folder)["model"][0] == "=1+1"
