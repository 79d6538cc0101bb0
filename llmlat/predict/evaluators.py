"""From a predictor's file to a function of inputs: the formula itself, or the fitted pipeline beside it."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmlat.errors import one_line

Values = Mapping[str, Any]


class LoadError(Exception):
    """A pipeline's file that is missing, is another one, or cannot be loaded here."""


def linear_of(spec: Mapping[str, Any]) -> Callable[[Values], Any]:
    """Return the function of a linear predictor: plain arithmetic, so that one step takes a microsecond."""
    terms = tuple((name, float(entry["per_unit_ms"])) for name, entry in spec["features"].items())
    intercept = float(spec["intercept_per_unit_ms"])
    floor_ms = spec.get("floor_ms")
    is_plain = not spec.get("derived") and not any("formula" in entry for entry in spec["features"].values())
    if floor_ms is None and is_plain:
        return _plain_sum(terms, intercept)
    return _sum_of_formulas(spec, dict(terms), intercept, floor_ms)


def _plain_sum(terms: tuple[tuple[str, float], ...], intercept: float) -> Callable[[Values], Any]:
    def evaluate(values: Values) -> Any:
        latency: Any = intercept
        for name, weight in terms:
            value = values[name]
            latency = latency + weight * (value if isinstance(value, int | float) else _as_array(value))
        return latency

    return evaluate


def _sum_of_formulas(
    spec: Mapping[str, Any], weights: Mapping[str, float], intercept: float, floor_ms: float | None
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
            latency = latency + weight * feature
        latency = np.asarray(latency if floor_ms is None else np.maximum(latency, floor_ms))
        return latency if latency.ndim else float(latency)

    return evaluate


def pipeline_of(path: Path, spec: Mapping[str, Any]) -> Callable[[Values], Any]:
    """Return the function of the pickled pipeline beside a predictor's file.

    Raises
    ------
    LoadError
    """
    inputs = list(spec["inputs"])
    pickled = _checked(path, spec)
    try:
        import joblib
        import numpy as np
        import pandas as pd

        from llmlat.fit.threads import one_thread

        pipeline = joblib.load(pickled)
    except Exception as error:
        raise LoadError(
            f"{pickled}: cannot be unpickled here ({one_line(error)}); fit again on this machine."
        ) from error

    def evaluate(values: Values) -> Any:
        columns = np.broadcast_arrays(*(_as_column(values[name]) for name in inputs))
        frame = pd.DataFrame({name: column.ravel() for name, column in zip(inputs, columns, strict=True)})
        with one_thread():
            latency = pipeline.predict(frame).reshape(columns[0].shape)
        return latency if latency.ndim else float(latency)

    return evaluate


def _checked(path: Path, spec: Mapping[str, Any]) -> Path:
    """Return the fitted pipeline's file, once it is known to be the one that was written with `path`."""
    pickled = path.with_name(spec["pipeline"]["file"])
    if (
        not pickled.is_file()
        or hashlib.sha256(pickled.read_bytes()).hexdigest() != spec["pipeline"]["sha256"]
    ):
        raise LoadError(f"{pickled}: missing, or not the file that {path.name} was written with; fit again.")
    return pickled


def _as_array(value: Any) -> Any:
    import numpy as np

    if value is None:
        raise TypeError("predict() takes numbers or arrays of numbers; got None.")
    return np.asarray(value, dtype=np.float64)


def _as_column(value: Any) -> Any:
    """Return texts as they are, and anything else as numbers."""
    import numpy as np

    values = np.asarray(value)
    return values.astype(object) if values.dtype.kind in "OUS" and _is_text(values) else _as_array(value)


def _is_text(values: Any) -> bool:
    return any(isinstance(value, str) for value in values.ravel()[:1])
