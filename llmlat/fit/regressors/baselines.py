"""Baselines that a table could hold: what a regressor has to beat.

The mean and the median of all rows are scikit-learn's `DummyRegressor`.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from llmlat.fit.regressors.columns import column_position
from llmlat.fit.regressors.criterion import MEAN, check_criterion, constant

Floats = npt.NDArray[np.float64]


class ContextBinRegressor(RegressorMixin, BaseEstimator):
    """The mean latency of rows of like context: bins of one column, each with as many rows.

    Parameters
    ----------
    column : str or int, default=0
        The column that is binned, by name or position.
    n_bins : int, default=10
        Bins at most; fewer where the column has fewer values.
    criterion : str, default='mean'
        What a bin's number states: `mean`, or what `mae`, `mape`, `pinball` or `pinball@0.99` is least at.

    Attributes
    ----------
    edges_ : ndarray of float64, shape (n_bins - 1,)
        Where a bin ends and the next begins.
    levels_ms_ : ndarray of float64, shape (n_bins,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(self, column: str | int = 0, n_bins: int = 10, criterion: str = MEAN) -> None:
        self.column = column
        self.n_bins = n_bins
        self.criterion = criterion

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on rows.

        Raises
        ------
        ValueError
            Where `X` lacks the column, or has negative values; or where there is to be no bin.
        """
        if self.n_bins < 1:
            raise ValueError(f"n_bins={self.n_bins}: use a whole number of at least 1")
        check_criterion(self.criterion)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        check_non_negative(X, f"{type(self).__name__}: columns are 0 or more; leave them unscaled.")
        values = X[:, column_position(self, self.column)]
        shares = np.arange(1, self.n_bins) / self.n_bins
        # Edges are values that occur, and none is the smallest, so that no bin is empty.
        edges = np.unique(np.quantile(values, shares, method="higher"))
        self.edges_ = edges[edges > values.min()]
        bins = self._bins(values)
        in_bins = [y[bins == k] for k in range(len(self.edges_) + 1)]
        self.levels_ms_ = np.array([constant(self.criterion, each) for each in in_bins])
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,); outside the bins the nearest one's."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        predicted: Floats = self.levels_ms_[self._bins(X[:, column_position(self, self.column)])]
        return predicted

    def __sklearn_tags__(self) -> Any:
        tags = _as_baseline(super().__sklearn_tags__())
        tags.input_tags.positive_only = True  # bins in the column's own unit, and by its name
        return tags

    def _bins(self, values: Floats) -> npt.NDArray[np.intp]:
        return np.searchsorted(self.edges_, values, side="right")


class LastTokenRegressor(RegressorMixin, BaseEstimator):
    """The latency of the token before: a column that is known when the step begins, handed on as it is.

    Parameters
    ----------
    column : str or int, default=0
        Latency of the token before, in ms; NaN for token 0, which has none before it.

    Attributes
    ----------
    first_ms_ : float
        What token 0 is given: the median latency of token 0, or of all rows where none is among them.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(self, column: str | int = 0) -> None:
        self.column = column

    def fit(self, X: Any, y: Any) -> Self:
        """Learn what to say of token 0.

        Raises
        ------
        ValueError
            Where `X` lacks the column, or has negative values.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_all_finite="allow-nan")
        check_non_negative(
            np.nan_to_num(X), f"{type(self).__name__}: latencies are 0 or more; leave them unscaled."
        )
        first = np.isnan(X[:, column_position(self, self.column)])
        self.first_ms_ = float(np.median(y[first] if first.any() else y))
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False, ensure_all_finite="allow-nan")
        before = X[:, column_position(self, self.column)]
        return np.where(np.isnan(before), self.first_ms_, before)

    def __sklearn_tags__(self) -> Any:
        tags = _as_baseline(super().__sklearn_tags__())
        tags.input_tags.allow_nan = True
        tags.input_tags.positive_only = True  # a latency: to scale it would be to lose it
        return tags


def _as_baseline(tags: Any) -> Any:
    tags.regressor_tags.poor_score = True  # one column of many is no rival to a regressor
    return tags
