"""The best setting: chosen on validation folds, never on test rows, and each seed for itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sweep_metrics import metrics_of

from llmlat.sweep import read_jobs, story
from llmlat.sweep.choose import choose, roles_of
from llmlat.sweep.frame import swept_in
from llmlat.sweep.seeds import over_seeds

MakeJob = Callable[..., Path]
KEYS = ["prompt_set", "regressor.alpha"]


def result(validation: float | None, test: float, **changes: Any) -> dict[str, Any]:
    block = None if validation is None else {"mae_ms": validation, "rmse_ms": validation}
    return metrics_of(mae_ms=test, validation=block, **changes)


def test_keys_have_roles() -> None:
    roles = roles_of(
        ["prompt_set", "regressor.alpha", "regressor", "features", "seed", "split", "split.seed"]
    )
    assert roles.data == ["prompt_set", "split"]
    assert roles.settings == ["regressor.alpha", "regressor", "features"]
    assert roles.seeds == ["seed", "split.seed"]


def test_validation_chooses_and_test_rows_only_score(grid: Path) -> None:
    short, chat = choose(read_jobs(grid), KEYS)
    assert (short.data, short.setting) == ({"prompt_set": "short"}, {"regressor.alpha": 1.0})
    assert (short.validation_mae_ms, short.test_mae_ms) == (0.9, 1.1), "0.7 on test rows was to be had"
    assert (chat.setting, chat.test_mae_ms) == ({"regressor.alpha": 10.0}, 3.5)
    assert (short.n_settings, short.n_planned, short.n_seeds, short.jobs) == (3, 3, 1, ("1",))
    assert (short.test_sd_ms, short.validation_sd_ms) == (None, None)


def test_the_choice_stands_beside_a_guess_on_its_own_test_rows(make_job: MakeJob) -> None:
    for number, (validation, guess) in enumerate([(2.0, 5.0), (1.0, 7.0)]):
        block = {"mean": {"mae_ms": guess}}
        folder = make_job(number, [f"regressor.alpha={number}"], result(validation, 3.0, baselines=block))
    jobs = read_jobs(folder)
    (choice,) = choose(jobs, swept_in(jobs))
    assert choice.guess_mae_ms == 7.0
    assert jobs["mean_guess_mae_ms"].tolist() == [5.0, 7.0]
    assert "guessing" not in story.result(jobs, [choice])
    beaten = replace(choice, guess_mae_ms=2.9)
    assert story.result(jobs, [beaten]).endswith(
        "3.00\N{NO-BREAK SPACE}ms, which is no better than always guessing the mean."
    )
    one, other = replace(choice, data={"prompt_set": "short"}), replace(beaten, data={"prompt_set": "chat"})
    assert story.result(jobs, [one, other]).endswith(
        "; for chat that is no better than always guessing the mean."
    )


def test_no_change_of_the_test_errors_moves_the_choice(grid: Path) -> None:
    jobs = read_jobs(grid)
    chosen = [choice.jobs for choice in choose(jobs, KEYS)]
    generator = np.random.default_rng(0)
    on_test = [name for name in jobs if name in {"mae_ms", "rmse_ms", "median_ae_ms", "r2", "mape"}]
    for _ in range(20):
        jobs[on_test] = generator.uniform(-9, 9, (len(jobs), len(on_test)))
        assert [choice.jobs for choice in choose(jobs, KEYS)] == chosen


def test_failed_jobs_are_not_chosen_and_are_counted(make_job: MakeJob) -> None:
    make_job(0, ["regressor.alpha=0"], failed={"error_class": "E", "message": "m"})
    make_job(1, ["regressor.alpha=1"])
    make_job(2, ["regressor.alpha=2"], result(None, 0.1))
    jobs = read_jobs(make_job(3, ["regressor.alpha=3"], result(2.0, 9.0)))
    (choice,) = choose(jobs, swept_in(jobs))
    assert (choice.jobs, choice.n_settings, choice.n_planned) == (("3",), 1, 4)


def test_without_validation_nothing_is_chosen(make_job: MakeJob) -> None:
    make_job(0, ["regressor.alpha=0"], result(None, 1.0))
    jobs = read_jobs(make_job(1, ["regressor.alpha=1"], result(None, 0.1)))
    assert choose(jobs, swept_in(jobs)) == []


@pytest.fixture
def seeded(make_job: MakeJob) -> pd.DataFrame:
    """Three seeds, two alphas: two seeds choose 1, one chooses 10."""
    validation = {(0, 1): 1.0, (0, 10): 2.0, (1, 1): 1.2, (1, 10): 2.0, (2, 1): 3.0, (2, 10): 2.6}
    for number, ((seed, alpha), error) in enumerate(validation.items()):
        overrides = [f"split.seed={seed}", f"regressor.alpha={alpha}"]
        folder = make_job(number, overrides, result(error, 10.0 * (number + 1)))
    return read_jobs(folder)


def test_each_seed_chooses_for_itself(seeded: pd.DataFrame) -> None:
    (choice,) = choose(seeded, swept_in(seeded))
    assert choice.setting == {"regressor.alpha": 1}
    assert (choice.n_seeds, choice.n_agreed, choice.jobs) == (3, 2, ("0", "2", "5"))
    assert choice.validation_mae_ms == pytest.approx((1.0 + 1.2 + 2.6) / 3)
    assert choice.test_mae_ms == pytest.approx((10 + 30 + 60) / 3)
    assert choice.test_sd_ms == pytest.approx(np.std([10, 30, 60], ddof=1))


def test_mean_and_spread_over_seeds(seeded: pd.DataFrame) -> None:
    table = over_seeds(seeded, swept_in(seeded)).set_index("regressor.alpha")
    assert table.loc[1, "validation_mae_ms"] == pytest.approx(np.mean([1.0, 1.2, 3.0]))
    assert table.loc[10, "mae_ms_sd"] == pytest.approx(np.std([20, 40, 60], ddof=1))
    assert table["n_done"].tolist() == [3, 3]
    assert table.loc[1, "scaled_ms.context_length"] == -0.5


def test_seeds_alone_have_one_row(make_job: MakeJob) -> None:
    make_job(0, ["seed=0"], result(1.0, 2.0))
    jobs = read_jobs(make_job(1, ["seed=1"], result(2.0, 4.0)))
    table = over_seeds(jobs, ["seed"])
    assert table["mae_ms"].tolist() == [3.0]
    (choice,) = choose(jobs, ["seed"])
    assert (choice.n_seeds, choice.test_mae_ms, choice.setting) == (2, 3.0, {})


def test_a_key_that_some_jobs_leave_alone(make_job: MakeJob) -> None:
    make_job(0, ["features=thesis"], result(2.0, 1.0))
    make_job(1, [], result(1.0, 3.0))
    jobs = read_jobs(make_job(2, ["features=first_visit"], result(4.0, 1.0)))
    (choice,) = choose(jobs, swept_in(jobs))
    assert (choice.jobs, choice.n_settings) == (("1",), 3)
