"""From a predictor's file to a function of inputs: a line, or a function of features."""

import math
from collections.abc import Callable, Mapping
from typing import Any

Values = Mapping[str, Any]


def linear_of(spec: Mapping[str, Any]) -> Callable[[Values], Any]:
    """Return the function of a linear predictor: plain arithmetic, so that one step takes a microsecond."""
    terms = tuple((name, _finite(entry["per_unit_ms"])) for name, entry in spec["features"].items())
    intercept = _finite(spec["intercept_per_unit_ms"])
    floor_ms = spec.get("floor_ms")
    is_plain = not spec.get("derived") and not any("formula" in entry for entry in spec["features"].values())
    missing = _missing(spec)
    if floor_ms is None and is_plain:
        return _plain_sum(tuple((*term, missing.get(term[0])) for term in terms), intercept)
    return _sum_of_formulas(spec, dict(terms), intercept, floor_ms, missing)


def _plain_sum(
    terms: tuple[tuple[str, float, float | None], ...], intercept: float
) -> Callable[[Values], Any]:
    def evaluate(values: Values) -> Any:
        latency: Any = intercept
        for name, weight, missing in terms:
            value = values[name]
            if not isinstance(value, int | float):
                value = _filled(_as_array(value), missing)
            elif value != value and missing is not None:
                value = missing
            latency = latency + weight * value
        return latency

    return evaluate


def _sum_of_formulas(
    spec: Mapping[str, Any],
    weights: Mapping[str, float],
    intercept: float,
    floor_ms: float | None,
    missing: Mapping[str, float],
) -> Callable[[Values], Any]:
    import numpy as np

    from llmlat.formulas.formula import parse
    from llmlat.formulas.recipe import recipe_of

    # A feature of a text is spelled as a formula; any other is an input, or derived from some.
    spelled = {
        name: parse(entry["formula"]) for name, entry in spec["features"].items() if "formula" in entry
    }
    plain = [name for name in weights if name not in spelled]
    read = [*plain, *(part for formula in spelled.values() for part in formula.names)]
    steps = recipe_of(read, spec.get("derived")).steps

    def evaluate(values: Values) -> Any:
        known = dict(values)
        for name, formula in steps.items():
            known[name] = formula(known)
        latency: Any = intercept
        for name, weight in weights.items():
            feature = spelled[name](known) if name in spelled else _as_array(known[name])
            latency = latency + weight * _filled(feature, missing.get(name))
        latency = np.asarray(latency if floor_ms is None else np.maximum(latency, floor_ms))
        return latency if latency.ndim else float(latency)

    return evaluate


def function_evaluator(spec: Mapping[str, Any]) -> Callable[[Values], Any]:
    """Return the function of a predictor that is no line: its features, and what they are put into."""
    import numpy as np

    from llmlat.formulas.formula import parse
    from llmlat.formulas.recipe import recipe_of
    from llmlat.predict.functions import function_of

    function = function_of(spec["function"])
    missing = _missing(spec)
    columns = [
        (name, parse(entry["formula"])) if "formula" in entry else (name, None)
        for name, entry in spec["features"].items()
    ]
    read = [part for name, formula in columns for part in (formula.names if formula else (name,))]
    steps = recipe_of(read, spec.get("derived")).steps

    def evaluate(values: Values) -> Any:
        known = dict(values)
        for name, formula in steps.items():
            known[name] = formula(known)
        asked = [
            np.asarray(formula(known) if formula else _as_array(known[name])) for name, formula in columns
        ]
        shape = np.broadcast_shapes(
            *(one.shape for one in asked), *(np.shape(one) for one in values.values())
        )
        X = np.empty((math.prod(shape), len(asked)))
        for place, ((name, _), one) in enumerate(zip(columns, asked, strict=True)):
            X[:, place] = np.broadcast_to(_filled(one, missing.get(name)), shape).ravel()
        latency = function(X).reshape(shape)
        return latency if latency.ndim else float(latency)

    return evaluate


def _as_array(value: Any) -> Any:
    import numpy as np

    if value is None:
        raise TypeError("predict() takes numbers or arrays of numbers; got None.")
    return np.asarray(value, dtype=np.float64)


def _missing(spec: Mapping[str, Any]) -> dict[str, float]:
    """Return what a feature is taken for where it is missing, of those that may be."""
    return {name: _finite(entry["missing"]) for name, entry in spec["features"].items() if "missing" in entry}


def _filled(values: Any, missing: float | None) -> Any:
    """Return values with the median of fitting where one is missing, as the fitted pipeline has it."""
    import numpy as np

    return values if missing is None else np.where(np.isnan(values), missing, values)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number to predict with")
    return number
