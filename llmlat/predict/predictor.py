"""The fitted predictor as a file, for people, and for programs that have neither torch nor scikit-learn.

Whatever was fitted is numbers in that file, and what is done with them is written here: a linear predictor's
formula takes microseconds, a forest some hundred, and reading a file from elsewhere runs nothing of it.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlat.errors import LlmlatError
from llmlat.files import read_object
from llmlat.formulas.formula import as_column
from llmlat.predict.check import check_spec
from llmlat.predict.estimate import Estimate, OutsideError, OutsideWarning, estimate
from llmlat.predict.one_step import OneStep, one_step
from llmlat.predict.spec import function_in

if TYPE_CHECKING:
    from llmlat.predict.arrays import Arrays
    from llmlat.predict.asked import Asked

FORMAT = 3


class PredictorError(LlmlatError):
    """A predictor file that cannot be read, or was not written by llmlat."""


class Predictor:
    """Predicts how long a step takes.

    Steps are said by keyword, one value or an array for each input; or in a mapping, where names are none of
    Python's; or in a DataFrame with a column an input, whose index the answer keeps.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`.

    Attributes
    ----------
    inputs : tuple of str
        What must be said of a step, in the order of fitting.
    spec : mapping
        What the file says: the formula, what it was fitted on, how well it did, and how far off it may be.

    Raises
    ------
    ValueError
        Where it holds no predictor.

    Examples
    --------
    >>> from llmlat.predict.predictor import Predictor
    >>> predictor = Predictor.linear({"prompt_tokens": 0.0, "context_length": 0.5}, intercept_ms=20.0)
    >>> predictor.predict(prompt_tokens=100, context_length=120)
    80.0
    >>> Predictor.linear({"GPU type": 1.0}, intercept_ms=2.0).predict({"GPU type": [1, 2]}).tolist()
    [3.0, 4.0]
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        check_spec(spec)
        self.spec = spec
        self.inputs: tuple[str, ...] = tuple(
            name for name, entry in spec["inputs"].items() if entry.get("default") is None
        )
        self._is_watched = bool(spec.get("domain"))
        self._one_step = self._compiled()
        if spec["kind"] != "linear":
            self._arrays  # noqa: B018 - its nodes are checked now, and not when a step is asked for

    @classmethod
    def linear(cls, weights: Mapping[str, float], intercept_ms: float) -> "Predictor":
        """Return the predictor of a formula.

        Parameters
        ----------
        weights : mapping
            Milliseconds per unit of each input.
        intercept_ms : float
            Milliseconds where every input is 0.
        """
        return cls(
            {
                "kind": "linear",
                "inputs": {name: {"from": None, "to": None} for name in weights},
                "features": {name: {"per_unit_ms": weight} for name, weight in weights.items()},
                "intercept_per_unit_ms": intercept_ms,
            }
        )

    def predict(self, steps: Any = None, /, **inputs: Any) -> Any:
        """Return the latency of one step, or of steps, in milliseconds.

        It is never below the fastest step that was measured of the phase. Outside of what was measured it
        answers as well, and warns once; `estimate` says how far off that may be, and `is_inside` where. Of a
        large batch some steps are looked at for that, and the extremes.

        Parameters
        ----------
        steps : mapping or DataFrame, optional
            A value or an array for each of `inputs`, by name.
        **inputs : float, str or array-like
            The same by keyword: single ones, or arrays of one shape. What had one value when it was fitted,
            or follows from the others, may be said too.

        Returns
        -------
        float, ndarray or Series
            Milliseconds, in the shape of the inputs, or with the index of the frame.

        Raises
        ------
        TypeError
            Where an input is missing, or one is not the predictor's.
        OutsideError
            Where a text was not measured, so that nothing is known of it.
        """
        if steps is None or not inputs:
            known = self._one_step(inputs if steps is None else steps, self._is_watched)
            if known is not None:
                return known
        asked = self._asked(steps, inputs)
        self._arrays.refuse_unknown_texts(asked)
        _, held_ms = self._arrays.predicted(asked)
        if self._is_watched:
            self._warn(asked)
        return asked.like(held_ms.reshape(asked.shape))

    def estimate(
        self, steps: Any = None, /, *, level: Any = 0.9, outside: Any = "widen", **inputs: Any
    ) -> Estimate:
        """Return the latency of one step, or of steps, and how far off that may be.

        Parameters
        ----------
        steps : mapping or DataFrame, optional
            As `predict` takes it. An input that is called `level` or `outside` is said by keyword as any
            other; together with the options of these names it is said here.
        level : float, default=0.9
            The share of steps of new requests that the interval holds: 0.5, 0.8, 0.9, 0.95 or 0.99.
        outside : {'widen', 'refuse'}
            What to do where something was asked that lies outside of what was measured.
        **inputs : float, str or array-like
            As `predict` takes them.

        Returns
        -------
        Estimate

        Raises
        ------
        OutsideError
            Where `outside` is refuse, and a step lies outside.
        PredictorError
            Where the file holds no intervals, or not of this level.
        """
        if steps is None and "level" in self.spec["inputs"]:
            inputs, level = {**inputs, "level": level}, 0.9
        if steps is None and "outside" in self.spec["inputs"]:
            inputs, outside = {**inputs, "outside": outside}, "widen"
        asked = self._asked(steps, inputs)
        calibration = self.spec.get("calibration")
        if not calibration:
            reason = self.spec.get("calibration_reason") or "none were calibrated"
            raise PredictorError(f"estimate: it holds no intervals ({reason}).")
        if outside not in ("widen", "refuse"):
            raise PredictorError(f"estimate: outside={outside}: use widen or refuse.")
        placed = self._arrays.placed(asked)
        if outside == "refuse" and placed.words:
            raise OutsideError(f"outside of what was measured: {'; '.join(placed.words)}.")
        try:
            found = estimate(calibration, *self._arrays.predicted(asked), placed, float(level))
        except (KeyError, TypeError, ValueError) as error:
            raise PredictorError(f"estimate: {error.args[0]}") from error
        arrays = ("ms", "low_ms", "high_ms", "p50_ms", "p90_ms", "p99_ms", "is_inside")
        shaped = {name: asked.like(getattr(found, name).reshape(asked.shape)) for name in arrays}
        return Estimate(**shaped, level=found.level, outside=found.outside)

    def is_inside(self, steps: Any = None, /, **inputs: Any) -> Any:
        """Return whether steps like these were measured, in the shape of the inputs; for figures to shade by.

        Parameters
        ----------
        steps : mapping or DataFrame, optional
        **inputs : float, str or array-like
            As `predict` takes them.
        """
        asked = self._asked(steps, inputs)
        return asked.like((self._arrays.placed(asked).excess == 0).reshape(asked.shape))

    def _asked(self, steps: Any, inputs: Mapping[str, Any]) -> "Asked":
        return self._arrays.inputs.asked(steps, inputs)

    def _warn(self, asked: "Asked") -> None:
        words = self._arrays.words(asked)
        if words:
            self._is_watched = False
            warnings.warn(
                f"outside of what was measured: {'; '.join(words)}; estimate() says how far off that may be "
                "(said once).",
                OutsideWarning,
                stacklevel=3,
            )

    @cached_property
    def _arrays(self) -> "Arrays":
        from llmlat.predict.arrays import Arrays  # what one step of a formula does without, numpy among it

        return Arrays(self.spec)

    def _compiled(self) -> OneStep:
        from llmlat.predict.expressions import expression

        def predicted(features: Sequence[str]) -> str | None:
            return expression(function_in(self.spec), features)

        features = self.spec["features"].items()
        formulas = {name: entry.get("formula") or as_column(name) for name, entry in features}
        try:
            return one_step(self.spec, formulas, predicted, lambda values: self._arrays.one(values))
        except (SyntaxError, RecursionError, MemoryError):  # of more parts than Python compiles at once
            return lambda values, watched: None

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.spec,))

    def __repr__(self) -> str:
        return f"Predictor({', '.join(self.inputs)})"


def load_predictor(path: str | Path) -> Predictor:
    """Load a predictor that a run has written.

    Nothing of the file is run, wherever it is from: it holds numbers, names, and formulas whose every part is
    looked at.

    Parameters
    ----------
    path : str or Path
        A `predictor.json`, or the run folder that holds one.

    Returns
    -------
    Predictor

    Raises
    ------
    PredictorError
        Where the file is missing, or is not a predictor.

    Examples
    --------
    >>> import llmlat
    >>> predictor = llmlat.load_predictor("outputs/default/<time>")  # doctest: +SKIP
    >>> predictor.predict(prompt_tokens=112, context_length=120)  # doctest: +SKIP
    21.4
    """
    path = Path(path)
    try:
        path = path / "predictor.json" if path.is_dir() else path
        spec = read_object(path)
        if type(spec["format"]) is not int or spec["format"] != FORMAT:
            raise PredictorError(
                f"{path}: format {str(spec['format'])[:40]} is not {FORMAT}; fit again with this version of "
                "llmlat (the dataset need not be measured again: dataset=<its folder>)."
            )
        return Predictor(spec)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise PredictorError(
            f"{path}: not a predictor ({said}); name a run folder or its predictor.json."
        ) from error


__all__ = ["Estimate", "OutsideError", "OutsideWarning", "Predictor", "PredictorError", "load_predictor"]
