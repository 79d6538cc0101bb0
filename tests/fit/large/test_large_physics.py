import numpy as np
import pandas as pd
import pytest
from large_rows import Opened, noisy_rows
from sklearn.pipeline import Pipeline

from llmlat.errors import ConfigError
from llmlat.fit.large import physics
from llmlat.fit.large.physics import fit_physics, is_physics
from llmlat.fit.large.sample import sample
from llmlat.fit.large.summary import summarise
from llmlat.fit.regressors import PhysicsRegressor

WORK = ["prompt_work", "kv_work", "batch_size"]


def pipeline() -> Pipeline:
    return Pipeline([("scaled", "passthrough"), ("regressor", PhysicsRegressor())])


def working_rows(floor_ms: float, noise: float = 0.05, n_requests: int = 200) -> pd.DataFrame:
    """Make rows of a known law."""
    rows = noisy_rows(n_requests)
    rows["prompt_work"] = rows["prompt_tokens"] * (rows["token_index"] == 0) * 1e6
    rows["kv_work"] = 1e3 * rows["batch_size"] * rows["context_length"]
    law = 5 + 1e-8 * rows["prompt_work"] + 2e-7 * rows["kv_work"] + 0.1 * rows["batch_size"]
    spread = np.random.default_rng(1).lognormal(0, noise, len(rows))
    return rows.assign(token_latency_ms=np.maximum(floor_ms, law) * spread)


def in_memory(rows: pd.DataFrame, columns: list[str]) -> PhysicsRegressor:
    counted = rows[~rows["is_warmup"]]
    return PhysicsRegressor().fit(counted[columns], counted["token_latency_ms"].to_numpy())


def on_files(
    opened: Opened, rows: pd.DataFrame, columns: list[str], start_rows: int = 1000
) -> tuple[PhysicsRegressor, str]:
    with opened(rows, columns) as stored:
        drawn = sample(stored, start_rows, seed=0)
        fitted, how = fit_physics(stored, summarise(stored), pipeline(), drawn)
    return fitted.named_steps["regressor"], how


def assert_same(found: PhysicsRegressor, expected: PhysicsRegressor) -> None:
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-8, atol=0)
    assert found.overhead_ms_ == pytest.approx(expected.overhead_ms_, rel=1e-8, abs=1e-10)
    assert found.floor_ms_ == pytest.approx(expected.floor_ms_, rel=1e-8)


def test_costs_are_those_of_the_rows_in_memory(opened: Opened) -> None:
    rows = working_rows(floor_ms=0.0)
    found, how = on_files(opened, rows, WORK)
    assert_same(found, in_memory(rows, WORK))
    assert how == "exact, without a floor"
    assert found.floor_ms_ == 0


@pytest.mark.parametrize("band_rows", [10**6, 500, 0])
def test_the_floor_is_that_of_the_rows_in_memory(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, band_rows: int
) -> None:
    monkeypatch.setattr(physics, "BAND_ROWS", band_rows)
    monkeypatch.setattr(physics, "MAX_BANDS", 20)
    rows = working_rows(floor_ms=9.0)
    found, how = on_files(opened, rows, WORK)
    assert found.floor_ms_ == pytest.approx(9.0, rel=0.01)
    assert_same(found, in_memory(rows, WORK))
    assert how.startswith("exact, its floor settled in ")
    assert how.endswith(" turns")


def test_a_floor_that_has_not_settled_says_so(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physics, "BAND_ROWS", 0)
    monkeypatch.setattr(physics, "MAX_BANDS", 1)
    _, how = on_files(opened, working_rows(floor_ms=9.0), WORK)
    assert " rows short of settling" in how


def test_costs_below_nothing_are_nothing(opened: Opened) -> None:
    rows = working_rows(floor_ms=0.0)
    rows["token_latency_ms"] -= 0.3 * rows["batch_size"] - 5
    found, _ = on_files(opened, rows, WORK, start_rows=10**6)  # a misfit that a floor may seem to mend
    expected = in_memory(rows, WORK)
    assert 0 in expected.coef_
    assert_same(found, expected)


def test_collinear_work_predicts_as_in_memory(opened: Opened) -> None:
    rows = working_rows(floor_ms=0.0)
    rows["twice"], rows["constant"] = 2 * rows["kv_work"], 7.0
    columns = [*WORK, "twice", "constant"]
    found, _ = on_files(opened, rows, columns)
    assert found.coef_[-1] == 0
    np.testing.assert_allclose(
        found.predict(rows[columns]), in_memory(rows, columns).predict(rows[columns]), rtol=1e-8
    )


def test_work_that_one_side_never_does_costs_what_it_costs_in_memory(opened: Opened) -> None:
    rows = working_rows(floor_ms=9.0)
    rows["rare_work"] = 3.0 + (rows["kv_work"] < 5e5) * (rows["token_index"] % 2)  # on the floor alone
    columns = [*WORK, "rare_work"]
    found, _ = on_files(opened, rows, columns)
    expected = in_memory(rows, columns)
    np.testing.assert_allclose(found.predict(rows[columns]), expected.predict(rows[columns]), rtol=1e-8)
    assert found.coef_[-1] == 0


def test_work_that_never_varies_is_overhead(opened: Opened) -> None:
    rows = working_rows(floor_ms=0.0).assign(constant=7.0, nothing=0.0)
    found, _ = on_files(opened, rows, ["constant", "nothing"])
    assert list(found.coef_) == [0, 0]
    assert found.overhead_ms_ == pytest.approx(
        in_memory(rows, ["constant", "nothing"]).overhead_ms_, rel=1e-12
    )


def test_negative_work_is_refused(opened: Opened) -> None:
    rows = working_rows(floor_ms=0.0)
    with pytest.raises(ConfigError, match="kv_work is below 0"):
        on_files(opened, rows.assign(kv_work=-1.0), WORK)


def test_which_pipelines_are_physics() -> None:
    from sklearn.preprocessing import StandardScaler

    assert is_physics(pipeline())
    assert not is_physics(Pipeline([("scaled", StandardScaler()), ("regressor", PhysicsRegressor())]))
