"""Physics of a known truth: its costs and its floor are recovered, and errors are clear."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from llmlat.fit.regressors import PhysicsRegressor

Floats = npt.NDArray[np.float64]

KV_MS_PER_BYTE, MATMUL_MS_PER_OPERATION, OVERHEAD_MS = 4e-10, 2e-12, 5.0


def work_of(n_rows: int = 400, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "kv_bytes": generator.uniform(0, 4e10, n_rows),
            "operations": generator.uniform(0, 1e13, n_rows),
            "weight_bytes": np.full(n_rows, 14e9),
        }
    )


def latency_of(work: pd.DataFrame, floor_ms: float = 0.0, noise: float = 0.0) -> Floats:
    device = OVERHEAD_MS + KV_MS_PER_BYTE * work["kv_bytes"] + MATMUL_MS_PER_OPERATION * work["operations"]
    factor = np.exp(noise * np.random.default_rng(1).normal(size=len(work)))
    return np.array(np.maximum(floor_ms, device) * factor)


def test_costs_are_recovered() -> None:
    work = work_of()
    fitted = PhysicsRegressor().fit(work, latency_of(work))
    assert fitted.coef_ == pytest.approx([KV_MS_PER_BYTE, MATMUL_MS_PER_OPERATION, 0.0], rel=1e-9)
    assert fitted.overhead_ms_ == pytest.approx(OVERHEAD_MS)
    assert fitted.floor_ms_ == 0.0
    assert list(fitted.feature_names_in_) == list(work)


def test_a_constant_column_is_part_of_the_overhead() -> None:
    work = work_of()
    both = PhysicsRegressor().fit(work, latency_of(work))
    without = PhysicsRegressor().fit(work.drop(columns="weight_bytes"), latency_of(work))
    assert both.coef_[2] == 0.0
    assert both.overhead_ms_ == without.overhead_ms_


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("floor_ms", [8.0, 15.0, 25.0])
def test_the_host_s_floor_is_found(floor_ms: float, noise: float) -> None:
    work = work_of()
    fitted = PhysicsRegressor().fit(work, latency_of(work, floor_ms, noise))
    tolerance = 1e-6 if noise == 0 else 0.1
    assert fitted.floor_ms_ == pytest.approx(floor_ms, rel=tolerance)
    assert fitted.coef_[0] == pytest.approx(KV_MS_PER_BYTE, rel=tolerance)
    above = work[latency_of(work) > floor_ms]
    assert fitted.predict(above) == pytest.approx(latency_of(above), rel=max(tolerance / 2, 1e-6))


def test_no_floor_is_made_up_from_noise() -> None:
    work = work_of()
    fitted = PhysicsRegressor().fit(work, latency_of(work, noise=0.05))
    assert fitted.floor_ms_ == 0.0


def test_where_every_step_waits_for_the_host_nothing_else_costs() -> None:
    work = work_of()
    fitted = PhysicsRegressor().fit(work, np.full(len(work), 60.0))
    assert fitted.predict(work) == pytest.approx(60.0)
    assert (fitted.coef_ * work.max().to_numpy()).max() < 1e-6


def test_no_cost_is_negative() -> None:
    context = np.linspace(100, 4000, 50)[:, None]
    fitted = PhysicsRegressor().fit(context, 30 - 0.001 * context[:, 0])
    assert fitted.coef_ == pytest.approx(0.0)


def test_errors_count_as_shares_of_the_latency() -> None:
    # Two kinds of rows, each with a number of its own: its mean, and not what is least as a share of it.
    work = np.array([[1.0], [1.0], [1000.0], [1000.0]])
    latency = np.array([10.0, 10.0, 8000.0, 10000.0])
    fitted = PhysicsRegressor().fit(work, latency)
    assert fitted.predict(work) == pytest.approx([10, 10, 9000, 9000], rel=1e-9)


@pytest.mark.parametrize("floor_ms", [0.0, 15.0])
def test_predictions_add_up_to_what_was_measured(floor_ms: float) -> None:
    work = work_of(4000)
    noise = np.exp(0.3 * np.random.default_rng(2).normal(size=len(work)))
    latency = latency_of(work, floor_ms) * noise
    assert PhysicsRegressor().fit(work, latency).predict(work).sum() == pytest.approx(latency.sum(), rel=0.01)
    held_up = np.where(np.arange(len(work)) % 33 == 0, 10.0, 1.0) * latency_of(work, floor_ms)
    assert PhysicsRegressor().fit(work, held_up).predict(work).sum() == pytest.approx(held_up.sum(), rel=0.01)


def test_a_request_that_is_slow_as_a_whole_is_no_floor() -> None:
    n_floors = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        request = np.repeat(np.arange(20), 30)
        work = (generator.uniform(64, 2000, 20)[request] + np.tile(np.arange(30), 20))[:, None]
        effect = np.exp(0.05 * generator.normal(size=20)[request] + 0.01 * generator.normal(size=600))
        fitted = PhysicsRegressor().fit(work, (20 + 0.01 * work[:, 0]) * effect, groups=request)
        n_floors += fitted.floor_ms_ > 0
    assert n_floors <= 2  # of single rows, independent of each other: 11


def test_a_step_held_up_ten_fold_hardly_counts_where_the_median_is_asked_for() -> None:
    work = work_of()
    latency = latency_of(work)
    latency[::50] *= 10
    fitted = PhysicsRegressor("mape").fit(work, latency)
    steady = np.arange(len(work)) % 50 > 0
    assert fitted.predict(work)[steady] == pytest.approx(latency[steady], rel=0.05)


def test_far_larger_work_goes_on_at_the_same_cost() -> None:
    work = work_of()
    larger = work * [100, 100, 1]
    fitted = PhysicsRegressor().fit(work, latency_of(work, floor_ms=15.0, noise=0.01))
    assert fitted.predict(larger) == pytest.approx(latency_of(larger), rel=0.02)


def test_what_cannot_be_fitted_is_told() -> None:
    work = work_of()
    latency = latency_of(work)
    with pytest.raises(ValueError, match=r"Negative values.*leave it unscaled"):
        PhysicsRegressor().fit(-work, latency)
    latency[[3, 7]] = [0.0, -1.0]
    with pytest.raises(ValueError, match=r"^2 of 400 latencies are not above 0 ms"):
        PhysicsRegressor().fit(work, latency)
