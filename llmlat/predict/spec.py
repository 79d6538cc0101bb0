"""Parts of a predictor's file: numbers that are numbers, and as many as needed."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class SpecError(ValueError):
    """Something in a file that no predictor says; the message names it."""


def number(holder: Mapping[str, Any], name: str) -> float:
    """Return a member that is a finite number.

    Raises
    ------
    SpecError
        Where it is none.
    """
    return finite(holder.get(name) if isinstance(holder, Mapping) else None, name)


def finite(value: Any, name: str) -> float:
    """Return a value as a finite number; raises as `number` does."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        known = float(value) if is_number else math.nan
    except OverflowError:
        known = math.inf
    if not math.isfinite(known):
        raise SpecError(f"{name}: {str(value)[:40]} is no number")
    return known


def numbers(
    holder: Mapping[str, Any], name: str, length: int | None = None, null: float | None = None
) -> "npt.NDArray[np.float64]":
    """Return a member that is a list of finite numbers.

    Parameters
    ----------
    holder : mapping
    name : str
    length : int, optional
        How many there have to be.
    null : float, optional
        What null stands for; none may be null where it stands for nothing.

    Raises
    ------
    SpecError
    """
    import numpy as np

    values = _list(holder, name, length)
    if null is None and None in values:
        raise SpecError(f"{name}: null is no number")
    try:
        known = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
    except OverflowError as error:
        raise SpecError(f"{name}: a number of them is too large") from error
    if not np.isfinite(known).all():
        raise SpecError(f"{name}: they are not all finite")
    if null is not None:
        known[[value is None for value in values]] = null
    return known


def _list(holder: Mapping[str, Any], name: str, length: int | None) -> list[Any]:
    values = holder.get(name)
    if not isinstance(values, list) or (length is not None and len(values) != length):
        wanted = "" if length is None else f" of {length}"
        raise SpecError(f"{name}: it is no list{wanted}")
    strange = {type(value) for value in values} - {int, float, type(None)}
    if strange:
        raise SpecError(f"{name}: they are not all numbers")
    return values


def function_in(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the function that a predictor's file spells; a line is spelled where people read it."""
    if spec["kind"] != "linear":
        function: Mapping[str, Any] = spec["function"]
        return function
    line = {
        "kind": "linear",
        "weights": [number(entry, "per_unit_ms") for entry in spec["features"].values()],
        "intercept": number(spec, "intercept_per_unit_ms"),
    }
    return (
        line if spec.get("floor_ms") is None else {"kind": "at_least", "value": spec["floor_ms"], "of": line}
    )
