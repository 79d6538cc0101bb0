"""What is said of steps, in any of the ways that people say it, as one value or array for each input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmlat.formulas.formula import Formula, parse

MISSING_TEXT = "nan"
"""How a missing text is spelled, as when fitting."""


@dataclass(frozen=True)
class Asked:
    """Steps.

    Attributes
    ----------
    values : dict of str to ndarray
        For each input its value for every step, or one for all: float64, or texts.
    shape : tuple of int
        Of what was asked.
    like : callable
        Turns an array of that shape into what is answered: a number, an array, or a column with the index of
        the frame that was asked.
    """

    values: dict[str, Any]
    shape: tuple[int, ...]
    like: Callable[[Any], Any]

    @property
    def n(self) -> int:
        """How many steps there are."""
        return int(np.prod(self.shape, dtype=np.int64))


class Inputs:
    """The inputs of a predictor's file.

    Parameters
    ----------
    entries : mapping
        `inputs` of `predictor.json`.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self._entries = entries
        self._follow: dict[str, tuple[Formula, Mapping[str, float]]] = {}
        self._constant: dict[str, Any] = {}
        for name, entry in entries.items():
            default = entry.get("default")
            if isinstance(default, Mapping):
                self._follow[name] = parse(default["formula"]), default["constants"]
            elif default is not None:
                self._constant[name] = default
        self.needed = [name for name in entries if name not in self._follow and name not in self._constant]

    def asked(self, steps: Any, said: Mapping[str, Any]) -> Asked:
        """Return what is asked.

        Parameters
        ----------
        steps : mapping, DataFrame or None
            What is said by any name; of a frame, columns that are no inputs are left aside.
        said : mapping
            What is said by keyword.

        Raises
        ------
        TypeError
            Where an input is missing, twice there, no number, or none of the predictor's.
        """
        is_frame = steps is not None and hasattr(steps, "columns")
        if is_frame:
            given = {name: steps[name] for name in self._entries if name in steps.columns}
        elif steps is None or isinstance(steps, Mapping):
            given = dict(steps or {})
        else:
            raise TypeError(f"predict() takes its inputs by name, a mapping or a frame; got {str(steps)[:40]}.")
        twice = sorted(set(given) & set(said))
        if twice:
            raise TypeError(f"{twice[0]} is said twice: by keyword, and in the steps.")
        return self._complete({**given, **said}, steps if is_frame else None)

    def _complete(self, given: Mapping[str, Any], frame: Any) -> Asked:
        if any(name not in given for name in self.needed) or any(name not in self._entries for name in given):
            raise TypeError(self.complaint(given))
        arrays = {name: self._array(name, value) for name, value in given.items()}
        try:
            shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        except ValueError as error:
            raise TypeError(f"the inputs are of different shapes: {error}.") from error
        if frame is not None:
            shape = (len(frame),)
        values = {name: _flat(array, shape) for name, array in arrays.items()}
        for name, default in self._constant.items():
            values.setdefault(name, self._array(name, default))
        for name, (formula, constants) in self._follow.items():
            if name not in values:
                values[name] = formula({**constants, **values})
        return Asked(values, shape, lambda answer: _like(answer, frame, given))

    def _array(self, name: str, value: Any) -> Any:
        if value is None:
            raise TypeError(f"predict() takes numbers, texts or arrays of them; {name} is None.")
        if "values" in self._entries[name]:
            return _texts(value)
        try:
            try:
                return np.asarray(value, dtype=np.float64)
            except (TypeError, ValueError):
                if not hasattr(value, "to_numpy"):
                    raise
                return value.to_numpy(dtype=np.float64, na_value=np.nan)  # a column with gaps
        except (TypeError, ValueError, OverflowError) as error:
            said = str(value).splitlines()[0][:40]
            raise TypeError(f"predict() takes {name} as a number or numbers; got {said}.") from error

    def complaint(self, given: Mapping[str, Any]) -> str:
        """Return what is to be said of steps, and what was."""
        others = [name for name in self._entries if name not in self.needed]
        may = f" (and may be told {', '.join(others)})" if others else ""
        return f"predict() takes {', '.join(self.needed)}{may}; got {', '.join(given) or 'nothing'}."


def _texts(value: Any) -> Any:
    values = np.asarray(value, dtype=object)
    return np.array([_text(one) for one in values.ravel()], dtype=object).reshape(values.shape)


def _text(value: Any) -> str:
    # None, pandas' NA and NaN: what is not there is not equal to itself, or has no truth.
    try:
        is_there = value is not None and bool(value == value)
    except TypeError:
        is_there = False
    return str(value) if is_there else MISSING_TEXT


def _flat(array: Any, shape: tuple[int, ...]) -> Any:
    return array if array.ndim == 0 else np.broadcast_to(array, shape).ravel()


def _like(answer: Any, frame: Any, given: Mapping[str, Any]) -> Any:
    if frame is None:
        return answer if answer.ndim else answer.item()
    column = next(iter(given.values()), None)
    if column is None or not hasattr(frame, "index") or not hasattr(frame, "iloc"):
        return answer
    return type(column)(answer, index=frame.index)  # a Series of whichever library the frame is of
