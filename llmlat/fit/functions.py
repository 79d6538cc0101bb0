"""A fitted regressor as data: the functions that `llmlat.predict.functions` evaluates, and no pickle."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from llmlat.fit.features.table import InTheirUnits
from llmlat.fit.regressors import (
    AutoRegressor,
    BoostedRegressor,
    ContextBinRegressor,
    HybridRegressor,
    LastTokenRegressor,
    LevelledRegressor,
    PhysicsRegressor,
    StepRegressor,
)
from llmlat.fit.regressors.columns import column_position
from llmlat.formulas.step_law import COLUMNS

Spec = dict[str, Any]

_OF_LOGARITHM = {"PoissonRegressor", "GammaRegressor"}
"""Lines of the latency's logarithm."""


class NoFunctionError(Exception):
    """A regressor that no function of a predictor file says."""


def function_spec(fitted: Any) -> Spec:
    """Return what a fitted regressor, or a pipeline of them, says of a table of features.

    Raises
    ------
    NoFunctionError
        Where there is no function for its kind.
    """
    for kind, spelled in _SPELLED.items():
        if isinstance(fitted, kind):
            return spelled(fitted)
    if type(fitted).__name__ == "XGBRegressor":
        return _xgboost(fitted)
    if _is_line(fitted):
        line = _line(np.ravel(fitted.coef_), np.ravel(fitted.intercept_)[0])
        return {"kind": "exponential", "of": line} if type(fitted).__name__ in _OF_LOGARITHM else line
    raise NoFunctionError(type(fitted).__name__)


def _is_line(fitted: Any) -> bool:
    """Whether it is one of scikit-learn's lines; a Tweedie regression may be of either kind."""
    is_linear = type(fitted).__module__.startswith(("sklearn.linear_model", "sklearn.svm"))
    has_weights = hasattr(fitted, "coef_") and np.size(getattr(fitted, "intercept_", ())) == 1
    return is_linear and has_weights and type(fitted).__name__ != "TweedieRegressor"


def _line(weights: Any, intercept: float) -> Spec:
    return {"kind": "linear", "weights": _plain(weights), "intercept": float(intercept)}


def _constant(value: Any) -> Spec:
    return {"kind": "constant", "value": float(value)}


def _times(of: Spec, factor: float, offset: float = 0.0) -> Spec:
    return of if (factor, offset) == (1.0, 0.0) else {
        "kind": "times", "factor": float(factor), "offset": float(offset), "of": of
    }  # fmt: skip


def _pipeline(fitted: Pipeline) -> Spec:
    *before, (_, last) = fitted.steps
    spec = function_spec(last)
    for _, step in reversed(before):
        if isinstance(step, StandardScaler):
            mean = step.mean_ if step.with_mean else np.zeros(step.n_features_in_)
            scale = step.scale_ if step.with_std else np.ones(step.n_features_in_)
            spec = {"kind": "scaled", "mean": _plain(mean), "scale": _plain(scale), "of": spec}
        elif not isinstance(step, InTheirUnits):
            raise NoFunctionError(type(step).__name__)
    return spec


def _physics(fitted: PhysicsRegressor) -> Spec:
    line = _line(fitted.coef_, fitted.overhead_ms_)
    return {"kind": "at_least", "value": float(fitted.floor_ms_), "of": line}


def _hybrid(fitted: HybridRegressor) -> Spec:
    shrunk = _times(function_spec(fitted.boosted_), fitted.shrinkage_)
    correction = {"kind": "exponential", "of": shrunk}
    both = {"kind": "product", "of": [function_spec(fitted.physics_), correction]}
    return _times(both, fitted.level_)


def _levelled(fitted: LevelledRegressor) -> Spec:
    shape = function_spec(fitted.regressor_)
    return _times({"kind": "exponential", "of": shape} if fitted.of_log else shape, fitted.level_)


def _auto(fitted: AutoRegressor) -> Spec:
    spelled = {
        value: _times(function_spec(one), fitted.levels_[value]) for value, one in fitted.regressors_.items()
    }
    if fitted.by is None:
        return spelled["all"]
    parts = [[float(value), one] for value, one in spelled.items()]
    return {"kind": "choice", "column": column_position(fitted, fitted.by), "parts": parts}


def _bins(fitted: ContextBinRegressor) -> Spec:
    edges, values = _plain(fitted.edges_), _plain(fitted.levels_ms_)
    column = column_position(fitted, fitted.column)
    return {"kind": "bins", "column": column, "edges": edges, "values": values}


def _last_token(fitted: LastTokenRegressor) -> Spec:
    column = column_position(fitted, fitted.column)
    return {"kind": "column", "column": column, "missing": float(fitted.first_ms_)}


def _step(fitted: StepRegressor) -> Spec:
    names = list(fitted.feature_names_in_)
    return {
        "kind": "step",
        "coefficients": fitted.coefficients_,
        "columns": [names.index(name) for name in COLUMNS],
    }


def _network(fitted: MLPRegressor) -> Spec:
    if fitted.activation != "relu":
        raise NoFunctionError(f"MLPRegressor with activation={fitted.activation}")
    layers = zip(fitted.coefs_, fitted.intercepts_, strict=True)
    return {"kind": "network", "layers": [[_plain(weights), _plain(biases)] for weights, biases in layers]}


def _transformed(fitted: TransformedTargetRegressor) -> Spec:
    spec = function_spec(fitted.regressor_)
    if isinstance(fitted.transformer, StandardScaler):
        scaler = fitted.transformer_
        return _times(spec, float(scaler.scale_[0]), float(scaler.mean_[0]))
    if (fitted.func, fitted.inverse_func) == (np.log, np.exp):
        return {"kind": "exponential", "of": spec}
    raise NoFunctionError("TransformedTargetRegressor of its own functions")


def _forest(fitted: RandomForestRegressor | ExtraTreesRegressor | DecisionTreeRegressor) -> Spec:
    trees = [one.tree_ for one in getattr(fitted, "estimators_", [fitted])]
    nodes = [
        {
            "feature": np.maximum(tree.feature, 0),
            "threshold": tree.threshold,
            "left": tree.children_left,
            "right": tree.children_right,
            "value": tree.value[:, 0, 0],
            "missing_left": tree.missing_go_to_left.astype(bool),
        }
        for tree in trees
    ]
    return _trees(nodes, is_mean=True, is_single=True)


def _boosting(fitted: HistGradientBoostingRegressor) -> Spec:
    if fitted.is_categorical_ is not None and np.any(fitted.is_categorical_):
        raise NoFunctionError("HistGradientBoostingRegressor with categories")
    nodes = []
    for (predictor,) in fitted._predictors:
        rows = predictor.nodes
        is_leaf = rows["is_leaf"].astype(bool)
        nodes.append(
            {
                "feature": rows["feature_idx"],
                "threshold": rows["num_threshold"],
                "left": np.where(is_leaf, -1, rows["left"].astype(np.int64)),
                "right": np.where(is_leaf, -1, rows["right"].astype(np.int64)),
                "value": rows["value"],
                "missing_left": rows["missing_go_to_left"].astype(bool),
            }
        )
    spec = _trees(nodes, base=float(np.ravel(fitted._baseline_prediction)[0]))
    if fitted.loss in {"poisson", "gamma"}:
        return {"kind": "exponential", "of": spec}
    return spec


def _xgboost(fitted: Any) -> Spec:
    learner = json.loads(fitted.get_booster().save_raw("json"))["learner"]
    if learner["objective"]["name"] not in {"reg:squarederror", "reg:absoluteerror", "reg:quantileerror"}:
        raise NoFunctionError(f"XGBRegressor with objective={learner['objective']['name']}")
    base = float(str(learner["learner_model_param"]["base_score"]).strip("[]").split(",")[0])
    nodes = [
        {
            "feature": np.asarray(tree["split_indices"]),
            "threshold": np.asarray(tree["split_conditions"], dtype=np.float32),
            "left": np.asarray(tree["left_children"]),
            "right": np.asarray(tree["right_children"]),
            "value": np.asarray(tree["split_conditions"], dtype=np.float32),
            "missing_left": np.asarray(tree["default_left"], dtype=bool),
        }
        for tree in learner["gradient_booster"]["model"]["trees"]
    ]
    return _trees(nodes, base=base, is_single=True, is_below=True, is_summed_single=True)


def _trees(
    nodes: list[dict[str, Any]],
    *,
    base: float = 0.0,
    is_mean: bool = False,
    is_single: bool = False,
    is_below: bool = False,
    is_summed_single: bool = False,
) -> Spec:
    """Return trees, one behind the other, in which every leaf is its own child."""
    sizes = [len(one["value"]) for one in nodes]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    own = [np.arange(size) for size in sizes]
    joined: dict[str, Any] = {
        name: np.concatenate([one[name] for one in nodes])
        for name in ("feature", "threshold", "value", "missing_left")
    }
    for side in ("left", "right"):
        joined[side] = np.concatenate(
            [
                np.where(one[side] < 0, place, one[side]) + root
                for one, place, root in zip(nodes, own, roots, strict=True)
            ]
        )
    is_leaf = joined["left"] == np.arange(sum(sizes))
    # What stands at a leaf's threshold or at a fork's value is nothing; JSON has no infinity.
    joined["threshold"] = np.where(is_leaf, 0.0, np.nan_to_num(joined["threshold"].astype(np.float64)))
    joined["value"] = np.where(is_leaf, joined["value"], 0.0)
    return {
        "kind": "trees",
        "base": base,
        "depth": max(_depth(one["left"], one["right"]) for one in nodes),
        "is_mean": is_mean,
        "is_single": is_single,
        "is_below": is_below,
        "is_summed_single": is_summed_single,
        "roots": roots.tolist(),
        **{name: _plain(values) for name, values in joined.items()},
    }


def _depth(left: Any, right: Any) -> int:
    depth, level = 0, [0]
    while level := [int(child) for node in level for child in (left[node], right[node]) if child >= 0]:
        depth += 1
    return depth


def _plain(values: Iterable[Any]) -> list[Any]:
    numbers: list[Any] = np.asarray(values).tolist()
    return numbers


_SPELLED: dict[type, Callable[[Any], Spec]] = {
    Pipeline: _pipeline,
    DummyRegressor: lambda fitted: _constant(np.ravel(fitted.constant_)[0]),
    PhysicsRegressor: _physics,
    StepRegressor: _step,
    HybridRegressor: _hybrid,
    LevelledRegressor: _levelled,
    AutoRegressor: _auto,
    BoostedRegressor: lambda fitted: function_spec(fitted.trees_),
    ContextBinRegressor: _bins,
    LastTokenRegressor: _last_token,
    MLPRegressor: _network,
    TransformedTargetRegressor: _transformed,
    RandomForestRegressor: _forest,
    ExtraTreesRegressor: _forest,
    DecisionTreeRegressor: _forest,
    HistGradientBoostingRegressor: _boosting,
}
