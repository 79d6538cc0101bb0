"""Physics times a boosted correction: a law where no row was measured, trees for what the law leaves out."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data
from threadpoolctl import threadpool_limits

from llmlat.predict.regressors.folds import grouped_folds
from llmlat.predict.regressors.physics import PhysicsRegressor, check_latencies

Floats = npt.NDArray[np.float64]


class HybridRegressor(RegressorMixin, BaseEstimator):
    """`physics(x) * exp(shrinkage * correction(x))`, the correction fitted on log(measured / physics).

    The correction learns from physics that has not seen the rows in question, and `shrinkage` is the share
    of the correction that held on groups of rows that *it* had not seen: the least-squares slope of what was
    missed on what was foretold (Breiman 1996, "Stacked regressions", Machine Learning 24, with one
    regressor). Where the physics is exact the trees foretell noise, and the share goes to 0.

    Outside the rows of fitting the law carries on, and trees stay at their outermost leaves: the correction
    there is the nearest one learnt, and never larger than the largest.

    Parameters
    ----------
    physics : regressor, optional
        Of positive predictions; a `PhysicsRegressor` where none is given.
    boosted : regressor, optional
        Of the log ratio; shallow boosted trees where none is given.
    n_folds : int, default=5
        Folds of the training rows; fewer where there are fewer groups.

    Attributes
    ----------
    physics_, boosted_ : regressor
        Fitted on all rows.
    shrinkage_ : float
        From 0, physics alone, to 1, the whole correction.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(self, physics: Any = None, boosted: Any = None, n_folds: int = 5) -> None:
        self.physics = physics
        self.boosted = boosted
        self.n_folds = n_folds

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit on rows of work and latency.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
            Work of each step; 0 or more.
        y : array-like, shape (n_rows,)
            Latencies in ms; above 0.
        groups : array-like, shape (n_rows,), optional
            Rows that are alike, such as one request's; they stay in one fold.

        Raises
        ------
        ValueError
            Where work is negative, a latency is not above 0, or there is one group only.
        """
        numbers, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        check_non_negative(numbers, f"{type(self).__name__}: work is 0 or more; leave it unscaled.")
        check_latencies(y)
        X = X if hasattr(X, "iloc") else numbers  # names, for parts that ask for columns by name
        folds = grouped_folds(len(y), groups, self.n_folds)
        physics, boosted = self._parts()
        # Two OpenMP threads on two busy cores take many times longer than one.
        with threadpool_limits(limits=1, user_api="openmp"):
            missed = _log_ratio(y, cross_val_predict(physics, X, y, cv=folds))
            self.shrinkage_ = _slope(missed, cross_val_predict(boosted, X, missed, cv=folds))
            self.physics_ = clone(physics).fit(X, y)
            self.boosted_ = clone(boosted).fit(X, missed)
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,)."""
        check_is_fitted(self)
        numbers = validate_data(self, X, dtype=np.float64, reset=False)
        X = X if hasattr(X, "iloc") else numbers
        with threadpool_limits(limits=1, user_api="openmp"):
            correction = np.exp(self.shrinkage_ * self.boosted_.predict(X))
            predicted: Floats = self.physics_.predict(X) * correction
        return predicted

    def _parts(self) -> tuple[Any, Any]:
        shallow = HistGradientBoostingRegressor(max_depth=3, random_state=0)
        return (
            PhysicsRegressor() if self.physics is None else self.physics,
            shallow if self.boosted is None else self.boosted,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        return tags


def _log_ratio(y: Floats, predicted: Floats) -> Floats:
    # A law without overhead may say 0 ms where there is no work; no ratio mends that.
    ratio: Floats = np.log(y / np.maximum(predicted, y.min() / 10))
    return ratio


def _slope(missed: Floats, foretold: Floats) -> float:
    """Return how much of what was foretold came true, from 0 to 1."""
    size = float(foretold @ foretold)
    return float(np.clip(missed @ foretold / size, 0.0, 1.0)) if size else 0.0
