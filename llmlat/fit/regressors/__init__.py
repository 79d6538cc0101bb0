"""Regressors of our own, in scikit-learn's grammar: laws, a boosted correction, a choice, baselines."""

from llmlat.fit.regressors.auto import AutoRegressor
from llmlat.fit.regressors.baselines import ContextBinRegressor, LastTokenRegressor
from llmlat.fit.regressors.hybrid import HybridRegressor
from llmlat.fit.regressors.physics import PhysicsRegressor
from llmlat.fit.regressors.step import StepRegressor

__all__ = [
    "AutoRegressor",
    "ContextBinRegressor",
    "HybridRegressor",
    "LastTokenRegressor",
    "PhysicsRegressor",
    "StepRegressor",
]
