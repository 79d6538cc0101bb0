"""Steps on arrays: their predictions, and where they lie. What one step at a time does not need."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlat.predict.asked import Asked, Inputs
from llmlat.predict.domain import Domain, Placed
from llmlat.predict.estimate import OutsideError
from llmlat.predict.features import Features, Values
from llmlat.predict.functions import function_of
from llmlat.predict.spec import SpecError, function_in

Floats = npt.NDArray[np.float64]

AT_ONCE = 1 << 16
"""Steps that are worked on together: what is bounded is the memory, and it stays in the cache."""
LOOKED_AT = 1000
"""Steps of a batch that `predict` looks for outside of what was measured, beside those of the extremes."""


class Arrays:
    """The arithmetic of a predictor's file.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._texts = {
            n: frozenset(entry["values"]) for n, entry in spec["inputs"].items() if "values" in entry
        }
        self.inputs = Inputs(spec["inputs"])
        self.domain = Domain(spec)
        self.features = Features(spec)
        self.of_features = function_of(function_in(spec))
        # Where weights and features do not fit each other, it is now that it is said.
        if np.shape(self.of_features(np.ones((1, len(spec["features"]))))) != (1,):
            raise SpecError("function: it does not fit the features")

    def one(self, features: Any) -> float:
        """Return the prediction of one step's features."""
        return float(self.of_features(np.array([features], dtype=np.float64))[0])

    def predicted(self, asked: Asked) -> tuple[Floats, Floats]:
        """Return predictions as the regressor makes them, and none quicker than the fastest step measured.

        Raises
        ------
        OutsideError
            Where a regressor was fitted for other values of an input only.
        """
        told: Floats = np.empty(asked.n)
        held: Floats = np.empty(asked.n)
        for part, values in _parts(asked):
            n = len(told[part])
            with np.errstate(all="ignore"):
                told[part] = self.of_features(self.features.table(values, n))
            np.maximum(told[part], self.domain.fastest_ms(values, n), out=held[part])
        if np.isnan(told).any():
            place = self.placed(asked).words or ("it comes to no number",)
            raise OutsideError(
                f"outside of what was measured: {'; '.join(place)}; nothing was fitted for it."
            )
        return told, held

    def refuse_unknown_texts(self, asked: Asked) -> None:
        """Refuse texts that were not measured, which no regressor knows anything of.

        Raises
        ------
        OutsideError
        """
        for name, known in self._texts.items():
            unknown = sorted(set(np.ravel(asked.values[name])) - known)
            if unknown:
                measured = ", ".join(sorted(known))
                raise OutsideError(
                    f"outside of what was measured: {name} {unknown[0]} (measured: {measured})."
                )

    def placed(self, asked: Asked) -> Placed:
        """Return where steps lie."""
        with np.errstate(all="ignore"):
            found = [
                self.domain.place(values, self.features.table(values, len(range(asked.n)[part])))
                for part, values in _parts(asked)
            ]
        if len(found) == 1:
            return found[0]
        flags = [one.is_prefill for one in found if one.is_prefill is not None]
        words = dict.fromkeys(word for one in found for word in one.words)
        excess = np.concatenate([one.excess for one in found] or [np.empty(0)])
        return Placed(excess, tuple(words), np.concatenate(flags) if flags else None)

    def words(self, asked: Asked) -> tuple[str, ...]:
        """Return in words what lies outside; of many steps, the extremes and some are looked at."""
        return self.placed(_thinned(asked)).words


def _parts(asked: Asked) -> Iterator[tuple[slice, Values]]:
    for start in range(0, asked.n, AT_ONCE):
        part = slice(start, min(start + AT_ONCE, asked.n))
        yield part, {name: v[part] if np.ndim(v) else v for name, v in asked.values.items()}


def _thinned(asked: Asked) -> Asked:
    if asked.n <= 2 * LOOKED_AT:
        return asked
    each = [np.arange(0, asked.n, max(asked.n // LOOKED_AT, 1))]
    for values in asked.values.values():
        if np.ndim(values) and values.dtype != object:
            each.append(np.array([values.argmin(), values.argmax()]))  # NaN counts as either
    at = np.unique(np.concatenate(each))
    some = {name: v[at] if np.ndim(v) else v for name, v in asked.values.items()}
    return Asked(some, (len(at),), asked.like)
