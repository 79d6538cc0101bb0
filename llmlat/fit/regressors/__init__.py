"""Regressors of our own, in scikit-learn's grammar; they state means unless another criterion is named."""

from llmlat.fit.regressors.auto import AutoRegressor
from llmlat.fit.regressors.baselines import ContextBinRegressor, LastTokenRegressor
from llmlat.fit.regressors.boosted import BoostedRegressor
from llmlat.fit.regressors.hybrid import HybridRegressor
from llmlat.fit.regressors.levelled import LevelledRegressor
from llmlat.fit.regressors.physics import PhysicsRegressor
from llmlat.fit.regressors.step import StepRegressor

__all__ = [
    "AutoRegressor",
    "BoostedRegressor",
    "ContextBinRegressor",
    "HybridRegressor",
    "LastTokenRegressor",
    "LevelledRegressor",
    "PhysicsRegressor",
    "StepRegressor",
]
