"""Physics with a correction: as good where the physics is right, better where it is not, sane beyond both."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import mean_absolute_percentage_error as mape

from llmlat.fit.regressors import HybridRegressor, PhysicsRegressor

Floats = npt.NDArray[np.float64]
N_REQUESTS, N_STEPS = 40, 10


def rows_of(wave: float, noise: float, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Make requests of a known law: 5 ms, 0.004 ms a token, and a wave in the context that no line has."""
    generator = np.random.default_rng(seed)
    context = np.repeat(generator.uniform(10, 4000, N_REQUESTS), N_STEPS) + np.tile(
        np.arange(N_STEPS), N_REQUESTS
    )
    law = (5 + 0.004 * context) * (1 + wave * np.sin(context / 400))
    request = np.repeat(np.arange(N_REQUESTS), N_STEPS)
    return context[:, None], law * np.exp(noise * generator.normal(size=len(context))), request


def test_where_the_physics_is_exact_the_correction_adds_next_to_nothing() -> None:
    train, test = rows_of(0.0, 0.03), rows_of(0.0, 0.0, seed=1)
    hybrid = HybridRegressor().fit(train[0], train[1], groups=train[2])
    assert hybrid.shrinkage_ < 0.3
    assert mape(test[1], hybrid.predict(test[0])) < 0.01


def test_where_the_physics_is_off_the_correction_mends_it() -> None:
    train, test = rows_of(0.3, 0.01), rows_of(0.3, 0.0, seed=1)
    physics = PhysicsRegressor().fit(train[0], train[1])
    hybrid = HybridRegressor().fit(train[0], train[1], groups=train[2])
    assert hybrid.shrinkage_ > 0.8
    assert mape(test[1], hybrid.predict(test[0])) < 0.4 * mape(test[1], physics.predict(test[0]))


def test_far_outside_the_law_goes_on_within_the_largest_correction() -> None:
    X, y, request = rows_of(0.3, 0.01)
    hybrid = HybridRegressor().fit(X, y, groups=request)
    far = np.array([[1e5], [1e6], [1e7]])
    ratio = hybrid.predict(far) / hybrid.physics_.predict(far)
    largest = np.abs(np.log(y / hybrid.physics_.predict(X))).max()
    assert (np.abs(np.log(ratio / hybrid.level_)) <= largest).all()
    assert ratio == pytest.approx(ratio[0])


class RequestSpy(RegressorMixin, BaseEstimator):
    """Foretells nothing, and notes which requests (their contexts, here) it is fitted on and asked of."""

    seen: list[tuple[set[int], set[int]]] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any) -> Self:
        self.fitted_on_ = set(X[:, 0].astype(int))
        return self

    def predict(self, X: Any) -> Floats:
        RequestSpy.seen.append((self.fitted_on_, set(X[:, 0].astype(int))))
        return np.zeros(len(X))


def test_the_share_is_judged_on_requests_that_were_not_fitted() -> None:
    request = np.repeat(np.arange(1, 11), 4)
    X = request[:, None].astype(float)
    RequestSpy.seen.clear()
    hybrid = HybridRegressor(boosted=RequestSpy()).fit(X, X[:, 0] + 1, groups=request)
    *held_out, last = RequestSpy.seen
    assert last == (set(range(1, 11)), set(range(1, 11)))  # for the level
    assert len(held_out) == 5
    for fitted_on, asked_of in held_out:
        assert not fitted_on & asked_of
        assert fitted_on | asked_of == set(range(1, 11))
    assert hybrid.shrinkage_ == 0.0
    assert hybrid.boosted_.fitted_on_ == set(range(1, 11))


def test_one_group_is_too_few() -> None:
    X, y, request = rows_of(0.0, 0.01)
    with pytest.raises(ValueError, match="1 group of rows: no part can be held out"):
        HybridRegressor().fit(X, y, groups=np.zeros_like(request))


def test_a_settled_copy_is_the_same_without_looking_again() -> None:
    X, y, request = rows_of(0.3, 0.05)
    hybrid = HybridRegressor().fit(X, y, groups=request)
    again = hybrid.settled().fit(X, y, groups=request)
    assert again.shrinkage_ == hybrid.shrinkage_
    assert again.boosted_.n_rounds_ == hybrid.boosted_.n_rounds_
    assert again.predict(X) == pytest.approx(hybrid.predict(X))
