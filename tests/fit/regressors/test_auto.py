"""The choice among regressors: a phase its own, by training groups kept apart, and told in full."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import TimeSeriesSplit
from sklearn.tree import DecisionTreeRegressor

from llmlat.fit.regressors import AutoRegressor, HybridRegressor, PhysicsRegressor

Floats = npt.NDArray[np.float64]


def rows_of(n_requests: int = 12, n_steps: int = 6) -> tuple[pd.DataFrame, Floats, npt.NDArray[np.int64]]:
    """Make requests whose prefill is a line in the context; decode is a constant, held up now and then."""
    request = np.repeat(np.arange(n_requests), n_steps)
    step = np.tile(np.arange(n_steps), n_requests)
    X = pd.DataFrame(
        {"context_length": 100.0 * (request + 1) + step, "is_prefill": (step == 0).astype(float)}
    )
    decode = np.where((request + step) % 7 == 0, 60.0, 20.0)
    latency = np.where(step == 0, 3 + 0.1 * X["context_length"], decode)
    return X, latency, request


CANDIDATES = {"line": LinearRegression(), "median": DummyRegressor(strategy="median")}


def test_each_phase_gets_the_regressor_that_serves_it() -> None:
    X, y, request = rows_of()
    auto = AutoRegressor(CANDIDATES, by="is_prefill", criterion="mae").fit(X, y, groups=request)
    assert {value: choice["chosen"] for value, choice in auto.choices_.items()} == {
        1.0: "line",
        0.0: "median",
    }
    prefill = auto.choices_[1.0]
    assert prefill["errors"]["line"] < 1e-9 < prefill["errors"]["median"]
    assert prefill["criterion"] == "mae"
    assert (prefill["n_rows"], prefill["n_folds"], prefill["failed"]) == (12, 5, {})
    assert list(auto.regressors_[1.0].feature_names_in_) == ["context_length"]
    is_prefill = X["is_prefill"] == 1
    assert auto.predict(X)[is_prefill] == pytest.approx(y[is_prefill])
    assert auto.predict(X)[~is_prefill] == pytest.approx(np.median(y[~is_prefill]))


class Spy(RegressorMixin, BaseEstimator):
    """Predicts a constant, and notes what it is fitted on and asked of."""

    fits: list[tuple[set[float], Any]] = []  # noqa: RUF012
    asked: list[tuple[set[float], set[float]]] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        self.fitted_on_ = set(np.asarray(X)[:, 0])
        Spy.fits.append((self.fitted_on_, groups))
        return self

    def predict(self, X: Any) -> Floats:
        Spy.asked.append((self.fitted_on_, set(np.asarray(X)[:, 0])))
        return np.full(len(X), 10.0)


@pytest.fixture
def spy() -> Spy:
    Spy.fits.clear()
    Spy.asked.clear()
    return Spy()


def test_groups_stay_together_and_are_handed_on(spy: Spy) -> None:
    request = np.repeat(np.arange(7), 3)
    X = request[:, None].astype(float)
    AutoRegressor({"spy": spy}).fit(X, np.full(len(X), 10.0), groups=request)
    held_out = [
        (fitted_on, asked) for fitted_on, asked in Spy.asked if asked != fitted_on
    ]  # not for its level
    assert len(held_out) == 5
    for fitted_on, asked_of in held_out:
        assert not fitted_on & asked_of
    assert set.union(*(asked_of for _, asked_of in held_out)) == set(range(7))
    for fitted_on, groups in Spy.fits:
        assert set(groups) == fitted_on
    assert Spy.fits[0][0] == set(range(7))


def test_a_phase_s_candidates_see_no_row_of_the_other(spy: Spy) -> None:
    X, y, request = rows_of()
    AutoRegressor({"spy": spy}, by="is_prefill").fit(X, y, groups=request)
    prefill = set(X.loc[X["is_prefill"] == 1, "context_length"])
    for fitted_on, _ in Spy.fits:
        assert fitted_on <= prefill or not fitted_on & prefill


def test_fewer_groups_are_fewer_folds() -> None:
    X, y, request = rows_of(n_requests=3)
    auto = AutoRegressor(CANDIDATES).fit(X, y, groups=request)
    assert auto.choices_["all"]["n_folds"] == 3


def test_a_splitter_may_ask_how_a_candidate_goes_on() -> None:
    size = np.arange(1.0, 41.0)[:, None]
    auto = AutoRegressor(CANDIDATES, cv=TimeSeriesSplit(3)).fit(size, 2 + size[:, 0])
    assert auto.choices_["all"]["chosen"] == "line"
    assert auto.choices_["all"]["n_folds"] == 3


class Failing(RegressorMixin, BaseEstimator):
    def fit(self, X: Any, y: Any) -> Self:
        raise RuntimeError("out of\nmemory")


def test_a_failing_candidate_is_left_out_and_told() -> None:
    X, y, request = rows_of()
    auto = AutoRegressor({"failing": Failing(), **CANDIDATES}).fit(X, y, groups=request)
    choice = auto.choices_["all"]
    assert choice["errors"]["failing"] is None
    assert choice["failed"] == {"failing": "out of memory"}
    with pytest.raises(ValueError, match=r"every candidate fails on a fold: .*out of memory"):
        AutoRegressor({"failing": Failing()}).fit(X, y, groups=request)


def test_unscaled_rows_are_asked_for_where_a_candidate_needs_them() -> None:
    def wants_work(candidates: dict[str, Any]) -> bool:
        return bool(AutoRegressor(candidates).__sklearn_tags__().input_tags.positive_only)

    assert not wants_work(CANDIDATES)
    assert wants_work({**CANDIDATES, "physics": PhysicsRegressor()})
    assert wants_work({"hybrid": HybridRegressor()})


def test_what_cannot_be_chosen_is_told() -> None:
    X, y, request = rows_of()
    with pytest.raises(ValueError, match="1 group of rows: no part can be held out"):
        AutoRegressor(CANDIDATES).fit(X, y, groups=np.zeros_like(request))
    with pytest.raises(
        ValueError, match=r"reads the feature 'phase', and there are context_length, is_prefill"
    ):
        AutoRegressor(CANDIDATES, by="phase").fit(X, y, groups=request)
    auto = AutoRegressor(CANDIDATES, by="is_prefill").fit(X.iloc[1:6], y[1:6])
    with pytest.raises(ValueError, match=r"is_prefill=1\.0: no training row had it"):
        auto.predict(X)


def test_beyond_the_sizes_known_both_ways_of_holding_out_count() -> None:
    generator = np.random.default_rng(0)
    size = np.repeat(np.arange(1.0, 41.0), 5)[:, None]
    latency = 20 + 2 * size[:, 0] * (1 + 0.1 * np.sin(2 * size[:, 0])) * np.exp(
        0.001 * generator.normal(size=len(size))
    )
    candidates = {"trees": DecisionTreeRegressor(random_state=0), "line": LinearRegression()}
    chosen = {}
    for folds in ("by_group", "by_size"):
        # Neighbours on both sides of a fold: rows stand alone, so equal sizes are known to the trees.
        auto = AutoRegressor(candidates, folds=folds).fit(size, latency)
        chosen[folds] = auto.choices_["all"]["chosen"]
    assert chosen == {"by_group": "trees", "by_size": "line"}
    assert auto.choices_["all"]["n_folds"] == 6


def test_of_candidates_as_good_as_each_other_the_first_is_taken() -> None:
    X, y, request = rows_of()
    better = {"line": LinearRegression(), "the same": LinearRegression()}
    assert AutoRegressor(better).fit(X, y, groups=request).choices_["all"]["chosen"] == "line"


@pytest.mark.parametrize(("criterion", "share_below"), [("mean", None), ("mae", 0.5), ("pinball@0.9", 0.9)])
def test_what_is_predicted_is_what_was_asked_for(criterion: str, share_below: float | None) -> None:
    generator = np.random.default_rng(0)
    work = generator.uniform(100, 4000, (4000, 1))
    latency = (20 + 0.01 * work[:, 0]) * np.exp(0.5 * generator.normal(size=len(work)))
    predicted = AutoRegressor(criterion=criterion).fit(work, latency).predict(work)
    if share_below is None:
        assert predicted.sum() == pytest.approx(latency.sum(), rel=0.01)
    else:
        assert (latency < predicted).mean() == pytest.approx(share_below, abs=0.02)
