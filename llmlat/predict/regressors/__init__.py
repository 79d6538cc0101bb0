"""Regressors of our own, in scikit-learn's grammar: physics, its boosted correction, a choice, baselines."""

from llmlat.predict.regressors.auto import AutoRegressor
from llmlat.predict.regressors.baselines import ContextBinRegressor, LastTokenRegressor
from llmlat.predict.regressors.hybrid import HybridRegressor
from llmlat.predict.regressors.physics import PhysicsRegressor

__all__ = [
    "AutoRegressor",
    "ContextBinRegressor",
    "HybridRegressor",
    "LastTokenRegressor",
    "PhysicsRegressor",
]
