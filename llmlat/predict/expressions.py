"""Functions of plain arithmetic as expressions on single floats, which one step is worked out by."""

from collections.abc import Mapping, Sequence
from typing import Any


def expression(function: Mapping[str, Any], features: Sequence[str]) -> str | None:
    """Return a function as an expression; None where it takes more than arithmetic.

    Parameters
    ----------
    function : mapping
        As `llmlat.predict.functions` reads it.
    features : sequence of str
        The expressions of its features.

    Returns
    -------
    str or None
        Of `exp`, `max`, `nan` and the features; numbers are spelled exactly.
    """
    kind = function["kind"]
    if kind == "constant":
        return _spelled(function["value"])
    if kind == "linear":
        weighted = zip(function["weights"], features, strict=True)
        terms = [f"{_spelled(weight)} * {feature}" for weight, feature in weighted if weight]
        return f"({' + '.join([_spelled(function['intercept']), *terms])})"
    if kind == "scaled":
        each = zip(features, function["mean"], function["scale"], strict=True)
        return expression(function["of"], [f"(({x} - {_spelled(m)}) / {_spelled(s)})" for x, m, s in each])
    if kind == "choice":
        return _choice(function, features)
    inner = expression(function["of"], features) if kind in {"times", "exponential", "at_least"} else None
    if inner is None:
        return None
    if kind == "at_least":
        return f"max({inner}, {_spelled(function['value'])})"
    if kind == "exponential":
        return f"exp({inner})"
    return f"({_spelled(function['factor'])} * {inner} + {_spelled(function['offset'])})"


def _choice(function: Mapping[str, Any], features: Sequence[str]) -> str | None:
    column = int(function["column"])
    rest = [feature for k, feature in enumerate(features) if k != column]
    chosen = [(value, expression(part, rest)) for value, part in function["parts"]]
    if any(part is None for _, part in chosen):
        return None
    parts = " ".join(f"{part} if {features[column]} == {_spelled(value)} else" for value, part in chosen)
    return f"({parts} nan)"


def _spelled(value: float) -> str:
    number = float(value)
    return f"({number!r})" if number < 0 else repr(number)
