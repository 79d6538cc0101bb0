"""scikit-learn's own checks on our own regressors."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from llmlat.fit.regressors import (
    AutoRegressor,
    ContextBinRegressor,
    HybridRegressor,
    LastTokenRegressor,
    PhysicsRegressor,
)

OURS = [PhysicsRegressor(), HybridRegressor(), AutoRegressor(), ContextBinRegressor(), LastTokenRegressor()]


@parametrize_with_checks(OURS)
def test_estimator(estimator: Any, check: Any) -> None:
    check(estimator)
