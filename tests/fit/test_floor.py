"""The noise floor: recovered from known noise, and set beside every error."""

import math

import numpy as np
import pandas as pd
import pytest

from llmlat.fit.floor import beside_floor, noise_floor

FEATURES = ["prompt_tokens", "context_length"]


@pytest.mark.parametrize("repetitions", [2, 3, 8])
def test_the_noise_floor_is_the_noise_that_was_put_in(make_rows, repetitions):
    sigma = 2.0
    rows = make_rows(range(10, 210, 10), tokens=100, repetitions=repetitions, noise_ms=sigma)
    floor, reason = noise_floor(rows, FEATURES)
    assert reason is None
    assert floor is not None
    assert floor["rmse_ms"] == pytest.approx(sigma, rel=0.05)
    assert floor["mae_ms"] == pytest.approx(sigma * math.sqrt(2 / math.pi), rel=0.05)
    assert (floor["n_cells"], floor["n_rows"]) == (2000, 2000 * repetitions)


def test_cells_of_one_row_say_nothing_about_noise(make_rows):
    rows = pd.concat(
        [make_rows([10, 20], tokens=5, repetitions=2), make_rows([500], tokens=50)], ignore_index=True
    )
    floor, _ = noise_floor(rows, FEATURES)
    assert floor is not None
    assert (floor["n_cells"], floor["n_rows"]) == (10, 20)
    assert floor["rmse_ms"] == pytest.approx(0.0, abs=1e-9)


def test_no_floor_without_repetitions(make_rows):
    floor, reason = noise_floor(make_rows([10, 200]), FEATURES)
    assert floor is None
    assert reason is not None
    assert "collect.repetitions" in reason


def test_no_predictor_beats_the_floor_where_a_few_rows_are_very_slow(make_rows):
    rows = make_rows(range(10, 210, 10), tokens=100, repetitions=5, noise_ms=1.0)
    slow = np.random.default_rng(3).random(len(rows)) < 0.02
    rows.loc[slow, "token_latency_ms"] += 200.0
    floor, _ = noise_floor(rows, FEATURES)
    assert floor is not None
    # Of a predictor that knows the truth. A mean of five rows instead of their median would double it.
    best_mae_ms = slow.mean() * 200.0 + (1 - slow.mean()) * math.sqrt(2 / math.pi)
    assert floor["mae_ms"] == pytest.approx(best_mae_ms, rel=0.25)


def test_each_phase_has_a_floor_of_its_own(make_rows):
    rows = make_rows([10, 50, 90], tokens=40, repetitions=6, noise_ms=1.0)
    prefill = (rows["phase"] == "prefill").to_numpy()
    rows.loc[prefill, "token_latency_ms"] += np.random.default_rng(1).normal(0, 20, prefill.sum())
    floor, _ = noise_floor(rows, FEATURES)
    assert floor is not None
    assert floor["by_phase"]["decode"]["rmse_ms"] == pytest.approx(1.0, rel=0.1)
    assert floor["by_phase"]["prefill"]["rmse_ms"] > 10


def test_a_column_that_is_empty_on_all_rows_still_makes_cells(make_rows):
    rows = make_rows([10, 50], tokens=10, repetitions=3, noise_ms=1.0)
    assert noise_floor(rows, [*FEATURES, "gpu_power_w"])[0] is not None


def test_every_error_block_stands_beside_the_floor_of_its_phase():
    phases = {"prefill": {"mae_ms": 4.0, "rmse_ms": 8.0}, "decode": None}
    floor = {"mae_ms": 1.0, "rmse_ms": 2.0, "by_phase": phases}
    block = {"mae_ms": 3.0, "rmse_ms": 3.0}
    found = beside_floor(
        {"mean": block, "by_phase": {"prefill": block, "decode": block}, "noise_floor": floor, "n": 1}, floor
    )
    assert found["mean"] == {**block, "mae_over_floor": 3.0, "rmse_over_floor": 1.5}
    assert found["by_phase"]["prefill"]["mae_over_floor"] == 0.75
    assert found["by_phase"]["decode"]["mae_over_floor"] is None
    assert found["noise_floor"] is floor
    assert found["n"] == 1


def test_without_a_floor_the_multiples_are_empty():
    found = beside_floor([{"mae_ms": 3.0, "rmse_ms": None}], None)
    assert found == [{"mae_ms": 3.0, "rmse_ms": None, "mae_over_floor": None, "rmse_over_floor": None}]
