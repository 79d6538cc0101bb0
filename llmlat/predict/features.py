"""From inputs to the numbers that a regressor sees, as the fitted pipeline made them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlat.formulas.formula import as_column, parse
from llmlat.formulas.recipe import recipe_of
from llmlat.predict.spec import SpecError, finite

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Any]


class Formulas:
    """Named formulas on inputs and derived columns, worked out together.

    Parameters
    ----------
    texts : mapping of str to str
        Formulas by name.
    inputs : iterable of str
        What they may read, beside `derived`.
    derived : mapping of str to str

    Raises
    ------
    SpecError
        Where one reads something else.
    """

    def __init__(self, texts: Mapping[str, str], inputs: Iterable[str], derived: Mapping[str, str]) -> None:
        self._wanted = {name: parse(text) for name, text in texts.items()}
        read = dict.fromkeys(part for formula in self._wanted.values() for part in formula.names)
        recipe = recipe_of(list(read), derived)
        unknown = sorted(set(recipe.inputs) - set(inputs))
        if unknown:
            raise SpecError(f"formulas: there is no input {unknown[0][:40]}")
        self._steps = recipe.steps

    def __len__(self) -> int:
        return len(self._wanted)

    def columns(self, values: Values, n: int) -> Floats:
        """Return a column for each formula, shape (n, n_formulas); each value is of n steps, or of all."""
        known = dict(values)
        for name, formula in self._steps.items():
            known[name] = formula(known)
        table: Floats = np.empty((n, len(self._wanted)), order="F")
        for k, formula in enumerate(self._wanted.values()):
            table[:, k] = formula(known)
        return table


class Features:
    """The table of features of a predictor's file.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        features = spec["features"].items()
        formulas = {name: entry.get("formula") or as_column(name) for name, entry in features}
        self._formulas = Formulas(formulas, spec["inputs"], spec.get("derived") or {})
        medians = [entry.get("missing") for _, entry in features]
        self._medians = [None if median is None else finite(median, "missing") for median in medians]

    def table(self, values: Values, n: int) -> Floats:
        """Return the features of n steps; a missing one is what it was when fitting."""
        table = self._formulas.columns(values, n)
        for k, median in enumerate(self._medians):
            if median is not None and np.isnan(column := table[:, k]).any():
                table[np.isnan(column), k] = median
        return table
