"""Rows to numbers: the first step of every fitted pipeline, so that predicting is as fitting was."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from llmlat.formulas.formula import as_column
from llmlat.formulas.recipe import recipe_of

Numbers = npt.NDArray[np.float64]


class FeatureError(ValueError):
    """Rows that no features can be made of; the message names the column and counts the rows."""


class FeatureTable(TransformerMixin, BaseEstimator):
    """Turns columns of rows, and formulas on them, into a table of numbers.

    Texts become a column of zeros and ones for each value but the first, named `column=value`. A missing
    number becomes the median of those that were there when fitting, unless what follows takes it as it is. A
    column that had one value in all rows, or none, can explain nothing; `telling_` leaves it out.

    Parameters
    ----------
    columns : sequence of str
        The features: columns of the rows, or names from `derived`.
    derived : mapping of str to str, optional
        Formulas (`llmlat.formulas.formula`) on columns of the rows and on other derived columns.
    fills : bool, default=True
        Whether missing numbers are filled in.

    Attributes
    ----------
    categories_ : dict of str to list of str
        The values of each text column, in order.
    medians_ : dict of str to float
        What takes the place of a missing number; 0 where all are missing.
    left_out_ : dict of str to str
        Features that can explain nothing, and why.
    feature_names_out_ : list of str
        The columns of the table.
    telling_ : list of bool
        Whether each of them can explain anything.
    """

    def __init__(
        self, columns: Sequence[str], derived: Mapping[str, str] | None = None, fills: bool = True
    ) -> None:
        self.columns = columns
        self.derived = derived
        self.fills = fills

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn what the columns hold.

        Raises
        ------
        FeatureError
            Where a column is missing or infinite, or no feature is left.
        """
        values = self._values(X)
        self.left_out_: dict[str, str] = {}
        self.categories_: dict[str, list[str]] = {}
        self.medians_: dict[str, float] = {}
        for name in self.columns:
            self._learn(name, values[name])
        named = [(name, out) for name in self.columns for out in self._names_of(name)]
        self.feature_names_out_ = [out for _, out in named]
        self.telling_ = [name not in self.left_out_ for name, _ in named]
        if not any(self.telling_):
            reasons = "; ".join(f"{name} {why}" for name, why in self.left_out_.items())
            raise FeatureError(f"no feature is left of {len(X)} rows: {reasons}")
        self.n_features_in_ = len(self.inputs())
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the table: float64, a column for each of `feature_names_out_`, the rows' index.

        Raises
        ------
        FeatureError
            Where a column is missing or infinite.
        """
        check_is_fitted(self)
        values = self._values(X)
        table: dict[str, Numbers] = {}
        for name in self.columns:
            if name in self.categories_:
                text = values[name].astype(str)
                table |= {f"{name}={v}": (text == v).astype(np.float64) for v in self.categories_[name][1:]}
            elif self.fills or name in self.left_out_:
                table[name] = np.where(np.isnan(values[name]), self.medians_[name], values[name])
            else:
                table[name] = values[name]
        return pd.DataFrame(table, index=X.index)

    def inputs(self) -> list[str]:
        """Return the columns of the rows that the features are made of, fitted or not."""
        return recipe_of(self.columns, self.derived).inputs

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the columns of the table."""
        check_is_fitted(self)
        return np.asarray(self.feature_names_out_, dtype=object)

    def formulas(self) -> dict[str, str]:
        """Return each column of the table as a formula on inputs and derived columns."""
        check_is_fitted(self)
        plain = {name: as_column(name) for name in self.columns if name not in self.categories_}
        spelled = {
            f"{n}={v}": f"{as_column(n)} == {v!r}"
            for n, values in self.categories_.items()
            for v in values[1:]
        }
        known = plain | spelled
        return {name: known[name] for name in self.feature_names_out_}

    def _names_of(self, name: str) -> list[str]:
        return (
            [f"{name}={value}" for value in self.categories_[name][1:]]
            if name in self.categories_
            else [name]
        )

    def _values(self, X: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
        """Return columns and derived columns as arrays, of float64 or of texts."""
        recipe = recipe_of(self.columns, self.derived)
        absent = [name for name in recipe.inputs if name not in X]
        if absent:
            raise FeatureError(f"the rows have no column {absent[0]!r}")
        values = {name: _as_array(X[name]) for name in recipe.inputs}
        for name, formula in recipe.steps.items():
            values[name] = np.broadcast_to(formula(values), len(X))
        for name in self.columns:
            infinite = 0 if values[name].dtype == object else int(np.isinf(values[name]).sum())
            if infinite:
                raise FeatureError(f"{name} is infinite in {infinite} of {len(X)} rows")
        return values

    def _learn(self, name: str, values: npt.NDArray[Any]) -> None:
        if values.dtype == object:
            self.categories_[name] = sorted({str(value) for value in values})
            if len(self.categories_[name]) == 1:
                self.left_out_[name] = f"is {self.categories_[name][0]} in all {len(values)} rows"
            return
        known = values[~np.isnan(values)]
        if not len(known):
            self.left_out_[name] = f"is missing in all {len(values)} rows"
        elif np.ptp(known) == 0:
            self.left_out_[name] = f"is {_spelled(known[0])} in all {len(known):,} rows that have it"
        self.medians_[name] = float(np.median(known)) if len(known) else 0.0


class InTheirUnits(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Passes features on as they are, where a regressor wants them in their units.

    Attributes
    ----------
    mean_, scale_ : ndarray of float64, shape (n_features,)
        The features' means and standard deviations, as `StandardScaler` has them.
    """

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Note where the features lie."""
        values = X.to_numpy(dtype=np.float64)
        self.mean_, self.scale_ = values.mean(axis=0), values.std(axis=0)
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = values.shape[1]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the features."""
        return X


def _spelled(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _as_array(column: pd.Series) -> npt.NDArray[Any]:
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    # Whatever stands for a missing text, a predictor file and SQL spell it `nan`.
    return column.astype(object).where(column.notna(), "nan").astype(str).to_numpy(dtype=object)
