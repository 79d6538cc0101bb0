"""Physics times a boosted correction: a law where no row was measured, trees for what the law leaves out."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from llmlat.fit.regressors.folds import Fold, grouped_folds
from llmlat.fit.regressors.physics import PhysicsRegressor, check_latencies

Floats = npt.NDArray[np.float64]


class HybridRegressor(RegressorMixin, BaseEstimator):
    """`physics(x) * exp(shrinkage * correction(x))`, the correction fitted on log(measured / physics).

    `shrinkage` is the share of the correction that holds on groups of rows that neither part has seen: the
    least-absolute slope of what the physics missed there on what the correction foretold (after Breiman 1996,
    "Stacked regressions", Machine Learning 24, of a single regressor). Where the physics is exact the
    correction foretells noise, and its share goes to 0.

    Outside the rows of fitting the law carries on, and trees stay at their outermost leaves: the correction
    there is the nearest one learnt, and never larger than the largest.

    Parameters
    ----------
    physics : regressor, optional
        Of positive predictions; a `PhysicsRegressor` where none is given.
    boosted : regressor, optional
        Of the log ratio; boosted trees of its median where none is given, which a step held up now and then
        does not move.
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
        self.shrinkage_ = self._held_share(X, y, folds)
        self.physics_, self.boosted_ = self._fit_parts(X, y)
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,)."""
        check_is_fitted(self)
        numbers = validate_data(self, X, dtype=np.float64, reset=False)
        X = X if hasattr(X, "iloc") else numbers
        correction = np.exp(self.shrinkage_ * self.boosted_.predict(X))
        predicted: Floats = self.physics_.predict(X) * correction
        return predicted

    def _fit_parts(self, X: Any, y: Floats) -> tuple[Any, Any]:
        physics = PhysicsRegressor() if self.physics is None else clone(self.physics)
        trees = HistGradientBoostingRegressor(loss="absolute_error", random_state=0)
        boosted = trees if self.boosted is None else clone(self.boosted)
        physics.fit(X, y)
        # Residuals of the rows it was fitted on: a handful of costs cannot follow them. Those of folds would
        # each be of another law, and the correction would learn the difference.
        boosted.fit(X, _log_ratio(y, physics.predict(X)))
        return physics, boosted

    def _held_share(self, X: Any, y: Floats, folds: list[Fold]) -> float:
        """Return how much of what was foretold of unseen groups came true, from 0 to 1."""
        missed, foretold = np.empty(len(y)), np.empty(len(y))
        for rest, fold in folds:
            physics, boosted = self._fit_parts(_safe_indexing(X, rest), y[rest])
            unseen = _safe_indexing(X, fold)
            missed[fold] = _log_ratio(y[fold], physics.predict(unseen))
            foretold[fold] = boosted.predict(unseen)
        return float(np.clip(_least_absolute_slope(missed, foretold), 0.0, 1.0))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        return tags


def _log_ratio(y: Floats, predicted: Floats) -> Floats:
    # A law without overhead may say 0 ms where there is no work; no ratio mends that.
    ratio: Floats = np.log(y / np.maximum(predicted, y.min() / 10))
    return ratio


def _least_absolute_slope(y: Floats, x: Floats) -> float:
    """Return the slope through the origin with the least absolute error: a weighted median of the ratios.

    Least squares would let one group that is unlike all others decide for them.
    """
    y, x = y[x != 0], x[x != 0]
    if len(x) == 0:
        return 0.0
    order = np.argsort(y / x)
    weight = np.abs(x[order]).cumsum()
    return float((y / x)[order[np.searchsorted(weight, weight[-1] / 2)]])
