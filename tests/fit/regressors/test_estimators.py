"""scikit-learn's own checks on our own regressors."""

from typing import Any

from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from llmlat.fit.regressors import (
    AutoRegressor,
    BoostedRegressor,
    ContextBinRegressor,
    HybridRegressor,
    LastTokenRegressor,
    LevelledRegressor,
    PhysicsRegressor,
)

OURS = [
    PhysicsRegressor(),
    PhysicsRegressor("mae"),
    HybridRegressor(),
    AutoRegressor(),
    BoostedRegressor("sklearn", max_rounds=30),
    LevelledRegressor(Ridge(), of_log=True),
    LevelledRegressor(Ridge(), criterion="mae"),
    ContextBinRegressor(),
    LastTokenRegressor(),
]


@parametrize_with_checks(OURS)
def test_estimator(estimator: Any, check: Any) -> None:
    check(estimator)
