from typing import Any

import numpy as np
import pandas as pd
import pytest
from large_rows import FEATURES, Stored, noisy_rows
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import PoissonRegressor, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.evaluate import error_block
from llmlat.fit.large import Settings, fit_large
from llmlat.fit.split import split_rows

BY_REQUEST = SplitConfig(SplitName.by_request, 0.25, 42)


def pipeline(regressor: Any) -> Pipeline:
    return Pipeline([("scaled", StandardScaler()), ("regressor", regressor)])


def settings(split: SplitConfig = BY_REQUEST, **others: Any) -> Settings:
    return Settings(split, memory_mb=100, **others)


def test_ridge_on_files_is_ridge_in_memory_with_the_same_errors(stored: Stored) -> None:
    rows = noisy_rows()
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    train, test = (counted.iloc[positions] for positions in split_rows(counted, BY_REQUEST))
    expected = pipeline(Ridge(alpha=2.0)).fit(train[list(FEATURES)], train["token_latency_ms"].to_numpy())
    found = fit_large(stored(rows), pipeline(Ridge(alpha=2.0)), settings())
    measured = test["token_latency_ms"].to_numpy()
    errors = error_block(measured, expected.predict(test[list(FEATURES)]))
    assert {name: found.metrics[name] for name in errors if name != "n"} == pytest.approx(
        {name: error for name, error in errors.items() if name != "n"}, rel=1e-10
    )
    for name, value in (
        ("mean", train["token_latency_ms"].mean()),
        ("median", train["token_latency_ms"].median()),
    ):
        constant = error_block(measured, np.full(len(test), value))
        assert found.metrics["baselines"][name] == pytest.approx(constant, rel=1e-10)
    counts = {"n_events": len(counted), "n_train": len(train), "n_test": len(test), "n_requests": 59}
    assert counts.items() <= found.metrics.items()
    assert found.how == found.metrics["how"] == "exact"
    assert found.n_passes == found.metrics["n_passes"] < 10
    pd.testing.assert_frame_equal(
        found.train, train[list(FEATURES)].agg(["min", "max"]).astype(float).reset_index(drop=True)
    )


def test_rows_may_be_split_one_by_one(stored: Stored) -> None:
    found = fit_large(
        stored(noisy_rows()), pipeline(Ridge()), settings(SplitConfig(SplitName.random, 0.25, 0))
    )
    assert found.metrics["n_train"] + found.metrics["n_test"] == found.metrics["n_events"]
    assert found.metrics["split"] == {"name": "random", "test_size": 0.25, "seed": 0}
    assert found.metrics["mae_ms"] < found.metrics["baselines"]["median"]["mae_ms"]


class Remembers(RegressorMixin, BaseEstimator):
    """Keeps what it was fitted on."""

    def fit(self, X: pd.DataFrame, y: np.ndarray, groups: Any = None) -> "Remembers":
        self.X_, self.y_, self.groups_ = X, y, groups
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.full(len(X), self.y_.mean())


def test_another_regressor_is_fitted_on_whole_training_requests_and_says_so(stored: Stored) -> None:
    rows = noisy_rows()
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    train = counted.iloc[split_rows(counted, BY_REQUEST)[0]]
    found = fit_large(stored(rows), pipeline(Remembers()), settings(sample_rows=300))
    fitted = found.fitted.named_steps["regressor"]
    drawn = train[train["request_id"].isin(fitted.groups_)]
    assert 300 <= len(fitted.y_) == len(drawn) < 360
    np.testing.assert_array_equal(np.sort(fitted.y_), np.sort(drawn["token_latency_ms"]))
    n_drawn, n_train = drawn["request_id"].nunique(), train["request_id"].nunique()
    assert found.how == (
        f"sampled by group: {n_drawn} of {n_train} requests, {len(drawn)} of {len(train):,} rows"
    )


def test_a_draw_is_the_same_again(stored: Stored) -> None:
    source, forest = stored(noisy_rows()), pipeline(RandomForestRegressor(5, random_state=0))
    first, second = (fit_large(source, forest, settings(sample_rows=300)) for _ in range(2))
    assert first.metrics["mae_ms"] == pytest.approx(second.metrics["mae_ms"], rel=1e-12)
    pd.testing.assert_frame_equal(first.predictions, second.predictions)


def test_no_row_to_test_on(stored: Stored) -> None:
    nothing = SplitConfig(SplitName.random, 1e-9, 0)
    with pytest.raises(ConfigError, match="no row was drawn to test on"):
        fit_large(stored(noisy_rows()), pipeline(Ridge()), settings(nothing))


def test_few_rows_are_all_fitted(stored: Stored) -> None:
    found = fit_large(stored(noisy_rows()), pipeline(PoissonRegressor()), settings())
    assert found.how.startswith("all rows: 44 requests, ")


def test_some_whole_test_requests_are_shown(stored: Stored) -> None:
    rows = noisy_rows()
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    test = counted.iloc[split_rows(counted, BY_REQUEST)[1]]
    found = fit_large(stored(rows), pipeline(Ridge()), settings(shown_rows=80))
    shown = found.predictions
    assert 80 <= len(shown) < 140
    assert set(shown["token_latency_ms"]) <= set(test["token_latency_ms"])
    np.testing.assert_array_equal(shown["predicted_ms"], found.fitted.predict(shown[list(FEATURES)]))


class Infinite(Remembers):
    """Predicts without bounds."""

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.full(len(X), np.inf)


def test_infinite_predictions_are_refused(stored: Stored) -> None:
    with pytest.raises(ConfigError, match="it predicts infinite latencies"):
        fit_large(stored(noisy_rows()), pipeline(Infinite()), settings())


def test_a_regressor_that_cannot_be_fitted(stored: Stored) -> None:
    class Refuses(Remembers):
        def fit(self, X: pd.DataFrame, y: np.ndarray, groups: Any = None) -> "Remembers":
            raise ValueError("no\nthanks")

    with pytest.raises(ConfigError, match=r"regressor: cannot be fitted on these rows \(no thanks\)"):
        fit_large(stored(noisy_rows()), pipeline(Refuses()), settings())
