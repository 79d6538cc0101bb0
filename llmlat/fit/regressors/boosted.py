"""Boosted trees of the size that held-out groups ask for: how many rounds, how few rows a leaf may hold."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from llmlat.fit.regressors.folds import BY_GROUP, folds_of

Floats = npt.NDArray[np.float64]

SKLEARN, XGBOOST = "sklearn", "xgboost"
N_FOLDS = 3
PATIENCE = 20  # rounds without a gain on held-out rows, after which there is none to wait for


class BoostedRegressor(RegressorMixin, BaseEstimator):
    """Gradient boosting on squared error, sized on folds of the training rows and fitted again on all.

    Noise asks for few rounds and large leaves, a table of many configurations without noise for hundreds of
    rounds and leaves of a few rows. Which of the two it is, held-out groups tell, by their absolute error: a
    step held up now and then does not move it.

    Parameters
    ----------
    library : {'sklearn', 'xgboost'}, optional
        Whose trees: scikit-learn's histogram boosting, or XGBoost's, which are fitted several times as fast.
        XGBoost's where it is installed and nothing is said.
    max_rounds : int, default=300
    leaves : sequence of int, default=(5, 20)
        Rows that a leaf holds at least; what is tried.
    learning_rate : float, default=0.1
    folds : {'by_group', 'by_size'}, default='by_group'
        By which rows it is sized: groups at random, or the largest beside them. None where the size is known:
        `max_rounds`, and the first of `leaves`.

    Attributes
    ----------
    trees_ : HistGradientBoostingRegressor or XGBRegressor
        Fitted on all rows.
    n_rounds_, leaf_ : int
        Its size.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(
        self,
        library: str | None = None,
        max_rounds: int = 300,
        leaves: Sequence[int] = (5, 20),
        learning_rate: float = 0.1,
        folds: str | None = BY_GROUP,
    ) -> None:
        self.library = library
        self.max_rounds = max_rounds
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.folds = folds

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Find the size, and fit on all rows.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
        y : array-like, shape (n_rows,)
        groups : array-like, shape (n_rows,), optional
            Rows that are alike, such as one request's; they stay together. Of one group only, single rows are
            held out.

        Raises
        ------
        ValueError
            Where there is one row only, or the library is neither.
        ImportError
            Where XGBoost is asked for and is not installed.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        if self.max_rounds < 1 or not len(self.leaves):
            raise ValueError(f"max_rounds={self.max_rounds}, leaves={self.leaves}: use at least 1 of each")
        self.n_rounds_, self.leaf_ = self._sized(X, y, groups)
        self.trees_ = _trees(self.library, self.n_rounds_, self.leaf_, self.learning_rate).fit(X, y)
        return self

    def predict(self, X: Any) -> Floats:
        """Return what is predicted, shape (n_rows,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.trees_.predict(X), dtype=np.float64)

    def settled(self) -> Any:
        """Return an unfitted copy of the size that was found, which is fitted without looking for it."""
        return clone(self).set_params(max_rounds=self.n_rounds_, leaves=(self.leaf_,), folds=None)

    def _sized(self, X: Floats, y: Floats, groups: Any) -> tuple[int, int]:
        """Return rounds and leaf of the smallest error on held-out rows."""
        if self.folds is None:
            return self.max_rounds, self.leaves[0]
        groups = None if groups is None or len(np.unique(groups)) < 2 else groups
        folds = list(chain.from_iterable(folds_of(self.folds, X, y, groups, N_FOLDS)))
        curves = np.array([[self._errors(leaf, X, y, *fold) for fold in folds] for leaf in self.leaves])
        missed = curves.sum(axis=1)
        leaf, rounds = np.unravel_index(np.argmin(missed), missed.shape)
        return int(rounds) + 1, self.leaves[int(leaf)]

    def _errors(self, leaf: int, X: Floats, y: Floats, rest: Any, held: Any) -> Floats:
        """Return the summed error of held-out rows after each round; it stays where no more is gained."""
        trees = _trees(self.library, self.max_rounds, leaf, self.learning_rate)
        if isinstance(trees, HistGradientBoostingRegressor):
            trees.set_params(early_stopping=True, n_iter_no_change=PATIENCE, tol=0.0)
            trees.fit(X[rest], y[rest], X_val=X[held], y_val=y[held])
            errors = [np.abs(y[held] - predicted).mean() for predicted in trees.staged_predict(X[held])]
        else:
            trees.set_params(early_stopping_rounds=PATIENCE, eval_metric="mae")
            trees.fit(X[rest], y[rest], eval_set=[(X[held], y[held])], verbose=False)
            errors = trees.evals_result()["validation_0"]["mae"]
        return len(held) * np.pad(errors, (0, self.max_rounds - len(errors)), mode="edge")


def _trees(library: str | None, rounds: int, leaf: int, learning_rate: float) -> Any:
    library = library or (XGBOOST if find_spec("xgboost") else SKLEARN)
    if library == SKLEARN:
        return HistGradientBoostingRegressor(
            learning_rate=learning_rate,
            max_iter=rounds,
            min_samples_leaf=leaf,
            early_stopping=False,
            random_state=0,
        )
    if library != XGBOOST:
        raise ValueError(f"library={library}: use {SKLEARN} or {XGBOOST}")
    from xgboost import XGBRegressor

    return XGBRegressor(
        learning_rate=learning_rate,
        n_estimators=rounds,
        min_child_weight=leaf,
        max_depth=6,
        n_jobs=1,
        random_state=0,
    )
