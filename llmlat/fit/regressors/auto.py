"""The regressor that does best on held-out groups of the training rows, chosen for each phase on its own."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from llmlat.errors import one_line
from llmlat.fit.regressors.columns import column_position
from llmlat.fit.regressors.criterion import MAPE, MEAN, check_criterion, ratio_level
from llmlat.fit.regressors.folds import BY_GROUP, Fold, fitted, folds_of, settled, worst_score
from llmlat.fit.regressors.physics import PhysicsRegressor, check_latencies

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

AS_GOOD = 1.02
"""A candidate whose error is within this factor of the smallest is as good, and an earlier one is taken."""


class AutoRegressor(RegressorMixin, BaseEstimator):
    """Choose among candidates by their error on held-out groups, then fit the chosen one on all rows.

    Each row of a fold is predicted by a fit on the rest, and all are judged together. What a candidate finds
    by folds of its own (how many trees, how much of a correction) it finds once, of all the rows. Rows
    outside `fit` are never seen, so a test on others is honest; the smallest of several errors is itself a
    little too small, which is why it is no test.

    Parameters
    ----------
    candidates : dict of str to regressor, optional
        Tried in this order, the most readable first: of those that are as good as the best, the first is
        taken. Physics and the mean where none are given.
    by : str or int, optional
        A column of few values, such as `is_prefill`; each value's rows get a choice of their own, and the
        column is not handed on. None for one choice.
    cv : int or splitter, default=5
        How many folds of the training rows, fewer where there are fewer groups; or a splitter of
        scikit-learn's.
    folds : {'by_group', 'by_size'}, default='by_group'
        What a choice has to hold on: groups at random; or these and the largest groups held out together, for
        a fit that is asked beyond the sizes that were measured: then the larger of both errors counts.
    criterion : str, default='mean'
        What predictions state and candidates are judged by: `mae`, `mape`, `pinball` or `pinball@0.99`, for
        which predictions are scaled to where it is least; or `mean`, where nothing is scaled, and candidates
        are judged as for `mape`.

    Attributes
    ----------
    choices_ : dict
        For each value of `by` (`all` where there is none): `chosen`, a candidate's name; `criterion`;
        `errors`, the validation error of each candidate, None where it failed; `failed`, why, for those;
        `n_rows`, `n_folds`.
    regressors_ : dict
        For each value of `by`, the chosen regressor, fitted on all its rows.
    levels_ : dict of float
        For each value of `by`, what its predictions are multiplied by; 1 for the mean, which every candidate
        is expected to state by itself.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(
        self,
        candidates: Mapping[str, Any] | None = None,
        by: str | int | None = None,
        cv: Any = 5,
        folds: str = BY_GROUP,
        criterion: str = MEAN,
    ) -> None:
        self.candidates = candidates
        self.by = by
        self.cv = cv
        self.folds = folds
        self.criterion = criterion

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Choose and fit.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
        y : array-like, shape (n_rows,)
            Latencies in ms; above 0.
        groups : array-like, shape (n_rows,), optional
            Rows that are alike, such as one prompt's; they stay in one fold.

        Raises
        ------
        ValueError
            Where a latency is not above 0, or a number is negative that a candidate wants not to be; where a
            value of `by` has one group only; where every candidate fails; where there is no such criterion.
        """
        check_criterion(self.criterion)
        numbers, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        if get_tags(self).input_tags.positive_only:
            check_non_negative(numbers, f"{type(self).__name__}: a candidate wants 0 or more, unscaled.")
        check_latencies(y)
        groups = None if groups is None else np.asarray(groups)
        self.choices_: dict[Any, dict[str, Any]] = {}
        self.regressors_: dict[Any, Any] = {}
        self.levels_: dict[Any, float] = {}
        for value, part, seen in self._parts(X, numbers):
            own_groups = None if groups is None else groups[part]
            divisions = self._divisions(numbers[part], y[part], own_groups)
            self.choices_[value], self.regressors_[value] = choose(
                self._candidates(), seen, y[part], own_groups, divisions, self.criterion
            )
            self.levels_[value] = _level(self.criterion, self.regressors_[value], seen, y[part])
        return self

    def predict(self, X: Any) -> Floats:
        """Return latencies in ms, shape (n_rows,).

        Raises
        ------
        ValueError
            Where `by` has a value that no training row had.
        """
        check_is_fitted(self)
        numbers = validate_data(self, X, dtype=np.float64, reset=False)
        predicted = np.empty(len(numbers))
        for value, part, seen in self._parts(X, numbers):
            if value not in self.regressors_:
                raise ValueError(f"{self.by}={value}: no training row had it, so nothing was chosen for it")
            predicted[part] = self.levels_[value] * self.regressors_[value].predict(seen)
        return predicted

    def _divisions(self, numbers: Floats, y: Floats, groups: Any) -> list[list[Fold]]:
        if isinstance(self.cv, int):
            return folds_of(self.folds, numbers, y, groups, self.cv)
        return [list(self.cv.split(numbers, y, groups))]

    def _candidates(self) -> dict[str, Any]:
        if self.candidates is None:
            return {"physics": PhysicsRegressor(), "mean": DummyRegressor()}
        return dict(self.candidates)

    def _parts(self, X: Any, numbers: Floats) -> Iterator[tuple[Any, Positions, Any]]:
        """Yield each value of `by`, the positions of its rows, and what a regressor sees of them."""
        X = X if hasattr(X, "iloc") else numbers  # names, for candidates that ask for columns by name
        if self.by is None:
            yield "all", np.arange(len(numbers)), X
            return
        position = column_position(self, self.by)
        others = np.delete(np.arange(numbers.shape[1]), position)
        for value in np.unique(numbers[:, position]):
            part = np.flatnonzero(numbers[:, position] == value)
            yield float(value), part, _safe_indexing(_safe_indexing(X, others, axis=1), part)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        of_candidates = [get_tags(one).input_tags for one in self._candidates().values()]
        tags.input_tags.positive_only = any(one.positive_only for one in of_candidates)
        tags.target_tags.positive_only = True
        return tags


def choose(
    candidates: Mapping[str, Any],
    X: Any,
    y: Floats,
    groups: Any,
    divisions: list[list[Fold]],
    criterion: str = MEAN,
) -> tuple[dict[str, Any], Any]:
    """Return which candidate is to be taken and all that was found on the way, and that candidate, fitted.

    Returns
    -------
    choice : dict
        An entry of `AutoRegressor.choices_`.
    regressor
        The chosen one, fitted on all rows.

    Raises
    ------
    ValueError
        Where every candidate fails.
    """
    # Which mean is nearest is told by what no step held up, and no size far off, decides alone. A candidate
    # is brought to its own rows' level first, or the one that says too little would be rewarded.
    judged_by = MAPE if criterion == MEAN else criterion
    errors: dict[str, float | None] = {}
    failed: dict[str, str] = {}
    regressors = {}
    for name, candidate in candidates.items():
        try:
            regressors[name] = fitted(candidate, X, y, groups)
            predicted = _held_out(settled(regressors[name]), X, y, groups, divisions, judged_by)
            errors[name] = worst_score(judged_by, y, divisions, predicted)
        except Exception as error:  # whatever a candidate raises, the others go on
            errors[name], failed[name] = None, one_line(error)
    known = {name: error for name, error in errors.items() if error is not None}
    if not known:
        raise ValueError(f"every candidate fails on a fold: {failed}")
    chosen = next(name for name, error in known.items() if error <= AS_GOOD * min(known.values()))
    found = {"chosen": chosen, "criterion": criterion, "errors": errors, "failed": failed}
    return {**found, "n_rows": len(y), "n_folds": sum(map(len, divisions))}, regressors[chosen]


def _held_out(
    candidate: Any, X: Any, y: Floats, groups: Any, divisions: list[list[Fold]], criterion: str
) -> list[Floats]:
    """Return each division's predictions of its held-out rows, by fits on the rest."""

    def predicted(rest: Positions, fold: Positions) -> Floats:
        seen = _safe_indexing(X, rest)
        one = fitted(candidate, seen, y[rest], None if groups is None else groups[rest])
        return _level(criterion, one, seen, y[rest]) * np.asarray(one.predict(_safe_indexing(X, fold)))

    return [np.concatenate([predicted(*fold) for fold in division]) for division in divisions]


def _level(criterion: str, regressor: Any, X: Any, y: Floats) -> float:
    return 1.0 if criterion == MEAN else ratio_level(criterion, y, regressor.predict(X))
