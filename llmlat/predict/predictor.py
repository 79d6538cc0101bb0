"""The fitted predictor as a file, for people, and for programs that have neither torch nor scikit-learn.

A linear predictor is its formula; evaluating it takes a microsecond. Any other is a function of features, as
data: nothing in a file can run, so one from elsewhere may be loaded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlat.errors import LlmlatError
from llmlat.files import read_object
from llmlat.predict.estimate import Estimate, OutsideError, estimate
from llmlat.predict.evaluators import function_evaluator, linear_of

if TYPE_CHECKING:
    from llmlat.formulas.formula import Formula

FORMAT = 3


class PredictorError(LlmlatError):
    """A predictor file that cannot be read, or was not written by llmlat."""


class Predictor:
    """Predicts how long a step takes.

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

    Examples
    --------
    >>> from llmlat.predict.predictor import Predictor
    >>> predictor = Predictor.linear({"prompt_tokens": 0.0, "context_length": 0.5}, intercept_ms=20.0)
    >>> predictor.predict(prompt_tokens=100, context_length=120)
    80.0
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.inputs: tuple[str, ...] = tuple(
            name for name, entry in spec["inputs"].items() if entry.get("default") is None
        )
        self._defaults = {
            name: entry["default"]
            for name, entry in spec["inputs"].items()
            if entry.get("default") is not None
        }
        self._evaluate = linear_of(spec) if spec["kind"] == "linear" else function_evaluator(spec)
        self._parsed: dict[str, Formula] = {}

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
        spec = {
            "kind": "linear",
            "inputs": {name: {} for name in weights},
            "features": {name: {"per_unit_ms": weight} for name, weight in weights.items()},
            "intercept_per_unit_ms": intercept_ms,
        }
        return cls(spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.spec,)

    def predict(self, table: Any = None, /, **inputs: Any) -> Any:
        """Return the latency of one step, or of arrays of steps, in milliseconds.

        It answers outside of what was measured as well; `estimate` says so.

        Parameters
        ----------
        table : mapping or DataFrame, optional
            The inputs, where their names are none of Python's: `predict({"GPU type": "H100"})`. Other
            columns of a frame are passed over.
        **inputs : float, str or array-like
            A value for each of `inputs`, by name: single ones, or arrays of one shape. What had one value
            when it was fitted, or follows from the others, may be said too.

        Returns
        -------
        float, ndarray or Series
            Milliseconds, in the shape of the inputs; of a frame, with its index.

        Raises
        ------
        TypeError
            Where an input is missing, or one is not the predictor's.
        """
        if table is not None:
            return self._predict_table(table, inputs)
        if self._defaults:
            inputs = self._complete(inputs)
        elif len(inputs) != len(self.inputs) or any(name not in inputs for name in self.inputs):
            raise TypeError(self._complaint(inputs))
        return self._evaluate(inputs)

    def estimate(
        self, table: Any = None, /, *, level: float = 0.9, outside: str = "widen", **inputs: Any
    ) -> Estimate:
        """Return the latency of one step, or of arrays of steps, and how far off that may be.

        Parameters
        ----------
        level : float, default=0.9
            The share of steps of new requests that the interval holds: 0.5, 0.8, 0.9, 0.95 or 0.99.
        outside : {'widen', 'refuse'}
            What to do where something was asked that lies outside of what was measured.
        table, **inputs
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
        values = self._complete(self._asked(table, inputs))
        try:
            return estimate(self.spec, values, self._evaluate(values), level, outside)
        except KeyError as error:
            raise PredictorError(f"estimate: {error.args[0]}") from error

    def _predict_table(self, table: Any, inputs: Mapping[str, Any]) -> Any:
        latency = self._evaluate(self._complete(self._asked(table, inputs)))
        if not hasattr(table, "columns") or not len(table.columns):
            return latency
        column = table[table.columns[0]]
        return type(column)(latency, index=table.index, name="predicted_ms")

    def _asked(self, table: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if table is None:
            return inputs
        if hasattr(table, "columns"):  # a frame has columns of other things as well
            return {**{name: table[name] for name in self.spec["inputs"] if name in table}, **inputs}
        if not isinstance(table, Mapping):
            raise TypeError(f"predict() takes its inputs by name, a mapping or a frame; got {table!r}.")
        return {**table, **inputs}

    def _complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in what may be left unsaid: constants as they were, and what follows from other inputs."""
        if any(name not in given for name in self.inputs) or any(
            name not in self.spec["inputs"] for name in given
        ):
            raise TypeError(self._complaint(given))
        left = {name: default for name, default in self._defaults.items() if name not in given}
        values = {**given, **{k: v for k, v in left.items() if not isinstance(v, Mapping)}}
        for name, default in left.items():
            if isinstance(default, Mapping):
                values[name] = self._formula(default["formula"])({**default["constants"], **values})
        return values

    def _formula(self, text: str) -> "Formula":
        if text not in self._parsed:
            from llmlat.formulas.formula import parse

            self._parsed[text] = parse(text)
        return self._parsed[text]

    def _complaint(self, given: Mapping[str, Any]) -> str:
        may = f" (and may be told {', '.join(self._defaults)})" if self._defaults else ""
        return f"predict() takes {', '.join(self.inputs)}{may}; got {', '.join(given) or 'nothing'}."

    def __repr__(self) -> str:
        return f"Predictor({', '.join(self.inputs)})"


def load_predictor(path: str | Path) -> Predictor:
    """Load a predictor that a run has written.

    Parameters
    ----------
    path : str or Path
        A `predictor.json`, or the run folder that holds one. Nothing in it is run.

    Returns
    -------
    Predictor

    Raises
    ------
    PredictorError
        Where the file is missing, damaged or not a predictor, or was written by another version.

    Examples
    --------
    >>> import llmlat
    >>> predictor = llmlat.load_predictor("outputs/default/<time>")  # doctest: +SKIP
    >>> predictor.predict(prompt_tokens=812, context_length=900)  # doctest: +SKIP
    21.4
    """
    path = Path(path)
    path = path / "predictor.json" if path.is_dir() else path
    try:
        spec = read_object(path)
        if spec["format"] != FORMAT:
            raise PredictorError(
                f"{path}: format {spec['format']} is not {FORMAT}; fit again with this version of llmlat."
            )
        return Predictor(spec)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PredictorError(
            f"{path}: not a predictor ({error}); name a run folder or its predictor.json."
        ) from error


__all__ = ["Estimate", "OutsideError", "Predictor", "PredictorError", "load_predictor"]
