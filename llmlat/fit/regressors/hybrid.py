"""Physics times a boosted correction: a law where no row was measured, trees for what the law leaves out."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from llmlat.fit.regressors.boosted import BoostedRegressor
from llmlat.fit.regressors.criterion import MAPE, MEAN, check_criterion, level, positive
from llmlat.fit.regressors.folds import BY_GROUP, Fold, fitted, folds_of, settled
from llmlat.fit.regressors.physics import PhysicsRegressor, check_latencies

Floats = npt.NDArray[np.float64]


class HybridRegressor(RegressorMixin, BaseEstimator):
    """`level * physics(x) * exp(shrinkage * correction(x))`, the correction one of log(measured / physics).

    `shrinkage` is the share of the correction that holds on groups of rows that neither part has seen: the
    least-absolute slope of what the physics missed there on what the correction foretold (after Breiman 1996,
    "Stacked regressions", Machine Learning 24, of a single regressor). Where the physics is exact the
    correction foretells noise, and its share goes to 0. `level` makes the product what the criterion asks
    for: the exponential of a mean logarithm is no mean.

    Outside the rows of fitting the law carries on, and trees stay at their outermost leaves: the correction
    there is the nearest one learnt, and never larger than the largest.

    Parameters
    ----------
    physics : regressor, optional
        Of positive predictions; where none is given, a `PhysicsRegressor` that steps held up do not
        bend: the level makes up for what it leaves out.
    boosted : regressor, optional
        Of the log ratio; a `BoostedRegressor` where none is given.
    n_folds : int, default=5
        Folds of the training rows; fewer where there are fewer groups.
    folds : {'by_group', 'by_size'}, default='by_group'
        What the share has to hold on: groups at random, or the largest groups as well.
    criterion : str, default='mean'
        What predictions state: `mean`, or what `mae`, `mape`, `pinball` or `pinball@0.99` is least at.
    shrinkage : float, optional
        The share, where it is not to be looked for.

    Attributes
    ----------
    physics_, boosted_ : regressor
        Fitted on all rows.
    shrinkage_ : float
        From 0, physics alone, to 1, the whole correction.
    level_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(
        self,
        physics: Any = None,
        boosted: Any = None,
        n_folds: int = 5,
        folds: str = BY_GROUP,
        criterion: str = MEAN,
        shrinkage: float | None = None,
    ) -> None:
        self.physics = physics
        self.boosted = boosted
        self.n_folds = n_folds
        self.folds = folds
        self.criterion = criterion
        self.shrinkage = shrinkage

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
        check_criterion(self.criterion)
        numbers, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        check_non_negative(numbers, f"{type(self).__name__}: work is 0 or more; leave it unscaled.")
        check_latencies(y)
        X = X if hasattr(X, "iloc") else numbers  # names, for parts that ask for columns by name
        groups = None if groups is None else np.asarray(groups)
        divisions = folds_of(self.folds, numbers, y, groups, self.n_folds)
        self.physics_, self.boosted_ = self._fit_parts(X, y, groups, self.boosted)
        self.shrinkage_ = self._held_share(X, y, groups, divisions)
        self.level_ = 1.0
        self.level_ = level(self.criterion, numbers, y, self.predict(X))
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,)."""
        check_is_fitted(self)
        numbers = validate_data(self, X, dtype=np.float64, reset=False)
        X = X if hasattr(X, "iloc") else numbers
        correction = self.level_ * np.exp(self.shrinkage_ * self.boosted_.predict(X))
        predicted: Floats = self.physics_.predict(X) * correction
        return predicted

    def settled(self) -> Any:
        """Return an unfitted copy with the share, and trees of the size, that were found."""
        return clone(self).set_params(boosted=settled(self.boosted_), shrinkage=self.shrinkage_)

    def _fit_parts(self, X: Any, y: Floats, groups: Any, boosted: Any) -> tuple[Any, Any]:
        physics = fitted(PhysicsRegressor(MAPE) if self.physics is None else self.physics, X, y, groups)
        # Residuals of the rows it was fitted on: a handful of costs cannot follow them. Those of folds would
        # each be of another law, and the correction would learn the difference.
        missed = np.log(y / positive(physics.predict(X), y))
        trees = BoostedRegressor(folds=self.folds) if boosted is None else boosted
        return physics, fitted(trees, X, missed, groups)

    def _held_share(self, X: Any, y: Floats, groups: Any, divisions: list[list[Fold]]) -> float:
        """Return how much of what was foretold of unseen groups came true, from 0 to 1."""
        if self.shrinkage is not None:
            return self.shrinkage
        trees = settled(self.boosted_)

        def held_out(rest: Any, fold: Any) -> tuple[Floats, Floats]:
            seen = None if groups is None else groups[rest]
            physics, boosted = self._fit_parts(_safe_indexing(X, rest), y[rest], seen, trees)
            unseen = _safe_indexing(X, fold)
            return np.log(y[fold] / positive(physics.predict(unseen), y)), boosted.predict(unseen)

        shares = []
        for division in divisions:
            missed, foretold = map(np.concatenate, zip(*(held_out(*fold) for fold in division), strict=True))
            # What all rows have in common is the level's.
            slope = _least_absolute_slope(missed - np.median(missed), foretold - np.median(foretold))
            shares.append(float(np.clip(slope, 0.0, 1.0)))
        return min(shares)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        return tags


def _least_absolute_slope(y: Floats, x: Floats) -> float:
    """Return the slope through the origin with the least absolute error: a weighted median of the ratios.

    Least squares would let one group that is unlike all others decide for them.
    """
    y, x = y[x != 0], x[x != 0]
    if len(x) == 0:
        return 0.0
    return float(np.quantile(y / x, 0.5, weights=np.abs(x), method="inverted_cdf"))
