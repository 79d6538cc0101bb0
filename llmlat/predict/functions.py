"""What a fitted regressor says, as data: a few kinds of functions of features, made of each other.

`predictor.json` holds a function as nested objects, each with its `kind`; nothing in it can be run but the
arithmetic below. `llmlat.fit.functions` writes them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlat.formulas.step_law import COLUMNS, step_ms

Floats = npt.NDArray[np.float64]
Function = Callable[[Floats], Floats]
"""From features, shape (n, n_features), to what is predicted, shape (n,)."""

CHUNK = 4096  # rows that trees are walked with at a time, so that their places fit into the cache
DEEPEST = 1000  # levels of a tree; a file that says more is damaged


def function_of(spec: Mapping[str, Any]) -> Function:
    """Return the function that a predictor file spells.

    Raises
    ------
    KeyError, TypeError, ValueError
        Where it spells none.
    """
    return _KINDS[spec["kind"]](spec)


def _constant(spec: Mapping[str, Any]) -> Function:
    value = _number(spec["value"])
    return lambda X: np.full(len(X), value)


def _linear(spec: Mapping[str, Any]) -> Function:
    weights, intercept = _array(spec["weights"]), _number(spec["intercept"])
    return lambda X: X @ weights + intercept


def _scaled(spec: Mapping[str, Any]) -> Function:
    """Return a function of features less their means, over their scales."""
    mean, scale, of = _array(spec["mean"]), _array(spec["scale"]), function_of(spec["of"])
    return lambda X: of((X - mean) / scale)


def _times(spec: Mapping[str, Any]) -> Function:
    factor, offset, of = _number(spec["factor"]), _number(spec["offset"]), function_of(spec["of"])
    return lambda X: of(X) * factor + offset


def _exponential(spec: Mapping[str, Any]) -> Function:
    of = function_of(spec["of"])
    return lambda X: np.exp(of(X))


def _at_least(spec: Mapping[str, Any]) -> Function:
    least, of = _number(spec["value"]), function_of(spec["of"])
    return lambda X: np.maximum(least, of(X))


def _product(spec: Mapping[str, Any]) -> Function:
    first, second = (function_of(one) for one in spec["of"])
    return lambda X: first(X) * second(X)


def _choice(spec: Mapping[str, Any]) -> Function:
    """Return a function for each value of a column, which is not handed on."""
    column = int(spec["column"])
    parts = [(_number(value), function_of(one)) for value, one in spec["parts"]]

    def chosen(X: Floats) -> Floats:
        predicted, rest = np.full(len(X), np.nan), np.delete(X, column, axis=1)
        for value, one in parts:
            is_part = X[:, column] == value
            if is_part.any():
                predicted[is_part] = one(rest[is_part])
        return predicted

    return chosen


def _bins(spec: Mapping[str, Any]) -> Function:
    column, edges, values = int(spec["column"]), _array(spec["edges"]), _array(spec["values"])
    if len(values) != len(edges) + 1:
        raise ValueError("bins: there is one value more than there are edges")
    return lambda X: values[np.searchsorted(edges, X[:, column], side="right")]


def _column(spec: Mapping[str, Any]) -> Function:
    """Return a column as it is, and another number where it is missing."""
    column, missing = int(spec["column"]), _number(spec["missing"])
    return lambda X: np.where(np.isnan(X[:, column]), missing, X[:, column])


def _network(spec: Mapping[str, Any]) -> Function:
    """Return layers of weights, with the larger of 0 and the sum between them."""
    layers = [(_array(weights), _array(biases)) for weights, biases in spec["layers"]]

    def network(X: Floats) -> Floats:
        for weights, biases in layers[:-1]:
            X = np.maximum(X @ weights + biases, 0.0)
        weights, biases = layers[-1]
        return (X @ weights + biases)[:, 0]

    return network


def _step(spec: Mapping[str, Any]) -> Function:
    coefficients = {str(name): _number(value) for name, value in spec["coefficients"].items()}
    columns = [int(column) for column in spec["columns"]]

    def law(X: Floats) -> Floats:
        work = {name: X[:, column] for name, column in zip(COLUMNS, columns, strict=True)}
        return np.asarray(step_ms(coefficients, work))

    law(np.zeros((1, max(columns) + 1)))  # where a coefficient is missing, it is now that it is said
    return law


def _trees(spec: Mapping[str, Any]) -> Function:
    """Return the sum, or the mean, over trees of the leaf that a row comes to.

    Each node sends a row to the left where its feature is at most the threshold (or below it, where
    `is_below`), and where it is missing by `missing_left`. A leaf is its own child.
    """
    number = np.dtype(np.float32 if spec["is_single"] else np.float64)
    feature, left, right, roots = (
        np.asarray(spec[name], dtype=np.int64) for name in ("feature", "left", "right", "roots")
    )
    threshold, value = (np.asarray(spec[name], dtype=np.float64) for name in ("threshold", "value"))
    missing_left = np.asarray(spec["missing_left"], dtype=bool)
    depth, is_below = int(spec["depth"]), bool(spec["is_below"])
    base, n = _number(spec["base"]), len(roots) if spec["is_mean"] else 1
    sizes = {len(one) for one in (feature, left, right, threshold, value, missing_left)}
    children = np.concatenate([left, right, roots])
    if len(sizes) != 1 or depth > DEEPEST or children.min() < 0 or children.max() >= len(feature):
        raise ValueError("trees: their nodes do not fit together")
    sums = number if spec["is_summed_single"] else np.dtype(np.float64)

    def walked(X: Floats) -> Floats:
        if feature.max(initial=0) >= X.shape[1] or feature.min(initial=0) < 0:
            raise ValueError("trees: a node asks for a feature that there is not")
        rows, seen = np.arange(len(X))[:, None], X.astype(number)
        places = np.broadcast_to(roots, (len(X), len(roots)))
        for _ in range(depth):
            x, limit = seen[rows, feature[places]], threshold[places]
            goes_left = (x < limit if is_below else x <= limit) | (np.isnan(x) & missing_left[places])
            places = np.where(goes_left, left[places], right[places])
        leaves = np.column_stack([np.full(len(X), base), value[places]]).astype(sums)
        # One after the other, as the library that fitted them adds them up.
        return np.add.accumulate(leaves, axis=1)[:, -1].astype(np.float64) / n

    def trees(X: Floats) -> Floats:
        if len(X) <= CHUNK:
            return walked(X)
        return np.concatenate([walked(X[start : start + CHUNK]) for start in range(0, len(X), CHUNK)])

    return trees


_KINDS: dict[str, Callable[[Mapping[str, Any]], Function]] = {
    "constant": _constant,
    "linear": _linear,
    "scaled": _scaled,
    "times": _times,
    "exponential": _exponential,
    "at_least": _at_least,
    "product": _product,
    "choice": _choice,
    "bins": _bins,
    "column": _column,
    "network": _network,
    "step": _step,
    "trees": _trees,
}


def _number(value: Any) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{value} is no number to predict with")
    return number


def _array(values: Any) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("a coefficient is missing or infinite")
    return numbers
