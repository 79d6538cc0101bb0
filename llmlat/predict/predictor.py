"""The fitted predictor as a file, for people, and for programs that have neither torch nor scikit-learn.

A linear predictor is its formula; evaluating it takes a microsecond. Any other regressor is kept beside the
file as the fitted scikit-learn pipeline, and loading it imports scikit-learn.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmlat.errors import LlmlatError, one_line

FORMAT = 1
_Evaluate = Callable[[Mapping[str, Any]], Any]


class PredictorError(LlmlatError):
    """A predictor file that cannot be read, or was not written by llmlat."""


class Predictor:
    """Predicts how long a step takes.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`.
    evaluate : callable
        Maps features by name to milliseconds.

    Attributes
    ----------
    features : tuple of str
        The features, in the order of fitting.
    spec : mapping
        What the file says: the formula, what it was fitted on, and how well it did.

    Examples
    --------
    >>> from llmlat.predict.predictor import Predictor
    >>> predictor = Predictor.linear({"prompt_tokens": 0.0, "context_length": 0.5}, intercept_ms=20.0)
    >>> predictor.predict(prompt_tokens=100, context_length=120)
    80.0
    """

    def __init__(self, spec: Mapping[str, Any], evaluate: _Evaluate) -> None:
        self.spec = spec
        self.features: tuple[str, ...] = tuple(spec["features"])
        self._evaluate = evaluate

    @classmethod
    def linear(cls, weights: Mapping[str, float], intercept_ms: float) -> "Predictor":
        """Return the predictor of a formula.

        Parameters
        ----------
        weights : mapping
            Milliseconds per unit of each feature.
        intercept_ms : float
            Milliseconds where every feature is 0.
        """
        spec = {
            "features": {name: {"per_unit_ms": weight} for name, weight in weights.items()},
            "intercept_per_unit_ms": intercept_ms,
        }
        return cls(spec, _linear(spec))

    def predict(self, **features: Any) -> Any:
        """Return the latency of one step, or of arrays of steps, in milliseconds.

        Parameters
        ----------
        **features : float or array-like
            A value for each of `features`, by name: numbers, or arrays of one shape.

        Returns
        -------
        float or ndarray
            Milliseconds, in the shape of the features.

        Raises
        ------
        TypeError
            Where a feature is missing, or one is not the predictor's.
        """
        if len(features) != len(self.features) or any(name not in features for name in self.features):
            raise TypeError(
                f"predict() takes {', '.join(self.features)}; got {', '.join(features) or 'nothing'}."
            )
        return self._evaluate(features)

    def __repr__(self) -> str:
        return f"Predictor({', '.join(self.features)})"


def _linear(spec: Mapping[str, Any]) -> _Evaluate:
    terms = tuple((name, float(entry["per_unit_ms"])) for name, entry in spec["features"].items())
    intercept = float(spec["intercept_per_unit_ms"])

    def evaluate(features: Mapping[str, Any]) -> Any:
        latency: Any = intercept
        for name, weight in terms:
            value = features[name]
            latency = latency + weight * (value if isinstance(value, int | float) else _as_array(value))
        return latency

    return evaluate


def _as_array(value: Any) -> Any:
    import numpy as np

    if value is None:
        raise TypeError("predict() takes numbers or arrays of numbers; got None.")
    return np.asarray(value, dtype=np.float64)


def _fitted_pipeline(path: Path, spec: Mapping[str, Any]) -> _Evaluate:
    features = list(spec["features"])
    try:
        import joblib
        import numpy as np
        import pandas as pd

        pipeline = joblib.load(path)
    except Exception as error:
        raise PredictorError(
            f"{path}: cannot be unpickled here ({one_line(error)}); fit again on this machine."
        ) from error

    def evaluate(values: Mapping[str, Any]) -> Any:
        columns = np.broadcast_arrays(*(_as_array(values[name]) for name in features))
        frame = pd.DataFrame({name: column.ravel() for name, column in zip(features, columns, strict=True)})
        latency = pipeline.predict(frame).reshape(columns[0].shape)
        return latency if latency.ndim else float(latency)

    return evaluate


def load_predictor(path: str | Path) -> Predictor:
    """Load a predictor that a run has written.

    Parameters
    ----------
    path : str or Path
        A `predictor.json`, or the run folder that holds one. Where the regressor is not linear, the fitted
        pipeline beside it is unpickled: load only files that you trust.

    Returns
    -------
    Predictor

    Raises
    ------
    PredictorError
        Where the file is missing, is not a predictor, or its pipeline is not the one it was written with.
    """
    path = Path(path)
    path = path / "predictor.json" if path.is_dir() else path
    try:
        spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if spec["format"] != FORMAT:
            raise PredictorError(
                f"{path}: format {spec['format']} is not {FORMAT}; fit again with this version of llmlat."
            )
        evaluate = _linear(spec) if spec["kind"] == "linear" else _fitted_pipeline(_pickled(path, spec), spec)
        return Predictor(spec, evaluate)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PredictorError(
            f"{path}: not a predictor ({error}); name a run folder or its predictor.json."
        ) from error


def _pickled(path: Path, spec: Mapping[str, Any]) -> Path:
    """Return the fitted pipeline's file, once it is known to be the one that was written with `path`."""
    pickled = path.with_name(spec["pipeline"]["file"])
    if (
        not pickled.is_file()
        or hashlib.sha256(pickled.read_bytes()).hexdigest() != spec["pipeline"]["sha256"]
    ):
        raise PredictorError(
            f"{pickled}: missing, or not the file that {path.name} was written with; fit again."
        )
    return pickled
