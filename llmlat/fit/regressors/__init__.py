"""Regressors of our own, in scikit-learn's grammar: physics, its boosted correction, a choice, baselines."""

from llmlat.fit.regressors.auto import AutoRegressor
from llmlat.fit.regressors.baselines import ContextBinRegressor, LastTokenRegressor
from llmlat.fit.regressors.hybrid import HybridRegressor
from llmlat.fit.regressors.physics import PhysicsRegressor

__all__ = [
    "AutoRegressor",
    "ContextBinRegressor",
    "HybridRegressor",
    "LastTokenRegressor",
    "PhysicsRegressor",
]
