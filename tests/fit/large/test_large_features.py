"""These need the table of features."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from large_rows import Opened, Stored, noisy_rows
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.coefficients import coefficient_table
from llmlat.fit.large import Settings, fit_large
from llmlat.fit.large.features import extremes, learn_features
from llmlat.fit.regressors import PhysicsRegressor
from llmlat.fit.split import split_rows

features_table = pytest.importorskip("llmlat.fit.features.table")

INPUTS = [
    "prompt_tokens",
    "context_length",
    "batch_size",
    "engine",
    "gpu_temperature_c",
    "num_beams",
    "power_w",
]
COLUMNS = ["context_length", "engine", "gpu_temperature_c", "num_beams", "is_prefill", "work", "power_w"]
DERIVED = {
    "is_prefill": "context_length == prompt_tokens",
    "work": "batch_size * context_length * maximum(is_prefill, engine == 'no_cache')",
}
SPLIT = SplitConfig(SplitName.by_request, 0.25, 42)


def table(columns: list[str] = COLUMNS) -> Any:
    return features_table.FeatureTable(columns, DERIVED)


def rows_of_all_sorts() -> pd.DataFrame:
    rows = noisy_rows()
    generator = np.random.default_rng(5)
    rows["engine"] = np.array(["eager", "no_cache", "graph"])[rows["request_id"] % 3]
    rows["gpu_temperature_c"] = generator.normal(60, 5, len(rows)).round(1)
    rows.loc[generator.random(len(rows)) < 0.2, "gpu_temperature_c"] = np.nan
    return rows.assign(num_beams=1, power_w=np.nan)


def assert_same(found: Any, expected: Any) -> None:
    for name in ("categories_", "left_out_", "feature_names_out_", "telling_", "n_features_in_", "medians_"):
        assert getattr(found, name) == getattr(expected, name), name


def test_a_table_learns_what_it_learns_in_memory(opened: Opened) -> None:
    rows = rows_of_all_sorts()
    counted = rows[~rows["is_warmup"]]
    expected = table().fit(counted[INPUTS])
    with opened(rows, INPUTS) as stored:
        found, columns = learn_features(stored, table())
        worked = stored.worked("worked", columns)
        frame = worked.database.frame(
            f"SELECT {worked.selected} FROM worked ORDER BY _group, _position"
        ).drop(columns="token_latency_ms")
    assert_same(found, expected)
    pd.testing.assert_frame_equal(frame, expected.transform(counted[INPUTS].reset_index(drop=True)))


def test_ridge_on_features_of_all_sorts_is_the_one_in_memory(stored: Stored) -> None:
    rows = rows_of_all_sorts()
    pipeline = Pipeline([("features", table()), ("scaled", StandardScaler()), ("regressor", Ridge())])
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    train, test = (counted.iloc[positions] for positions in split_rows(counted, SPLIT))
    expected = clone(pipeline).fit(train[INPUTS], train["token_latency_ms"].to_numpy())
    found = fit_large(stored(rows, INPUTS), pipeline, Settings(SPLIT, memory_mb=100))
    assert_same(found.fitted[0], expected[0])
    np.testing.assert_allclose(found.fitted[-1].coef_, expected[-1].coef_, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(found.fitted.predict(test[INPUTS]), expected.predict(test[INPUTS]), rtol=1e-9)
    assert found.how == "exact"
    assert coefficient_table(found.fitted)["coefficients"] == {
        feature: pytest.approx(told, rel=1e-8, abs=1e-13)
        for feature, told in coefficient_table(expected)["coefficients"].items()
    }


def test_physics_on_features_is_the_one_in_memory(stored: Stored) -> None:
    rows = rows_of_all_sorts()
    columns = ["work", "batch_size", "is_prefill"]
    pipeline = Pipeline(
        [
            ("features", table(columns)),
            ("scaled", features_table.InTheirUnits()),
            ("regressor", PhysicsRegressor()),
        ]
    )
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    train = counted.iloc[split_rows(counted, SPLIT)[0]]
    expected = clone(pipeline).fit(train[INPUTS], train["token_latency_ms"].to_numpy())
    found = fit_large(stored(rows, INPUTS), pipeline, Settings(SPLIT, memory_mb=100)).fitted
    np.testing.assert_allclose(found[-1].coef_, expected[-1].coef_, rtol=1e-8, atol=0)
    np.testing.assert_allclose(found[1].mean_, expected[1].mean_, rtol=1e-12)
    np.testing.assert_allclose(found[1].scale_, expected[1].scale_, rtol=1e-12)
    np.testing.assert_allclose(found.predict(train[INPUTS]), expected.predict(train[INPUTS]), rtol=1e-8)


def test_trees_on_features_of_all_sorts(stored: Stored) -> None:
    forest = RandomForestRegressor(5, random_state=0)
    pipeline = Pipeline([("features", table()), ("scaled", StandardScaler()), ("regressor", forest)])
    found = fit_large(stored(rows_of_all_sorts(), INPUTS), pipeline, Settings(SPLIT, 300, memory_mb=100))
    assert found.how.startswith("sampled by group: ")
    assert found.metrics["mae_ms"] < found.metrics["baselines"]["mean"]["mae_ms"]


def test_extremes_are_those_of_all_rows(opened: Opened) -> None:
    rows = rows_of_all_sorts()
    counted = rows[~rows["is_warmup"]]
    with opened(rows, INPUTS) as stored:
        found = extremes(stored)
    numbers = [name for name in INPUTS if name not in ("engine", "power_w")]
    pd.testing.assert_frame_equal(
        found[numbers].agg(["min", "max"]), counted[numbers].agg(["min", "max"]), check_dtype=False
    )
    assert set(found["engine"]) == set(counted["engine"])
    assert found["power_w"].isna().all()


def test_an_infinite_feature_is_named(opened: Opened) -> None:
    rows = rows_of_all_sorts()
    rows.loc[len(rows) - 1, "gpu_temperature_c"] = np.inf
    with (
        opened(rows, INPUTS) as stored,
        pytest.raises(ConfigError, match="gpu_temperature_c is infinite in some of"),
    ):
        learn_features(stored, table())


def test_no_feature_is_left(opened: Opened) -> None:
    with (
        opened(rows_of_all_sorts(), INPUTS) as stored,
        pytest.raises(
            ConfigError, match=r"no feature is left of .* num_beams is 1 in all .* power_w is missing"
        ),
    ):
        learn_features(stored, table(["num_beams", "power_w"]))
