"""The regressor that does best on held-out groups of the training rows, chosen for each phase on its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.dummy import DummyRegressor
from sklearn.metrics import mean_absolute_percentage_error
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.validation import check_is_fitted, check_non_negative, has_fit_parameter, validate_data

from llmlat.errors import one_line
from llmlat.fit.regressors.columns import column_position
from llmlat.fit.regressors.folds import Fold, grouped_folds
from llmlat.fit.regressors.physics import PhysicsRegressor, check_latencies

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


class AutoRegressor(RegressorMixin, BaseEstimator):
    """Choose among candidates by their error on held-out groups, then fit the chosen one on all rows.

    The error is the mean absolute one as a fraction of the latency (MAPE), over the rows of all folds, each
    predicted by a fit on the rest. Rows outside `fit` are never seen, so a test on others is honest;
    the smallest of several errors is itself a little too small, which is why it is no test.

    Parameters
    ----------
    candidates : dict of str to regressor, optional
        Tried in this order; of equals the first is taken. Physics and the median where none are given.
    by : str or int, optional
        A column of few values, such as `is_prefill`; each value's rows get a choice of their own, and the
        column is not handed on. None for one choice.
    cv : int or splitter, default=5
        How many folds of the training rows, fewer where there are fewer groups; or a splitter of
        scikit-learn's, such as `TimeSeriesSplit()` on rows in order of size, to choose what goes on best
        beyond the sizes that were measured.

    Attributes
    ----------
    choices_ : dict
        For each value of `by` (`all` where there is none): `chosen`, a candidate's name; `mape`, the
        validation error of each candidate, None where it failed; `failed`, why, for those; `n_rows`,
        `n_folds`.
    regressors_ : dict
        For each value of `by`, the chosen regressor, fitted on all its rows.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where `X` had names.
    """

    def __init__(
        self, candidates: Mapping[str, Any] | None = None, by: str | int | None = None, cv: Any = 5
    ) -> None:
        self.candidates = candidates
        self.by = by
        self.cv = cv

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Choose and fit.

        Parameters
        ----------
        X : DataFrame or array-like, shape (n_rows, n_features)
        y : array-like, shape (n_rows,)
            Latencies in ms; above 0.
        groups : array-like, shape (n_rows,), optional
            Rows that are alike, such as one request's; they stay in one fold.

        Raises
        ------
        ValueError
            Where a latency is not above 0, or a number is negative that a candidate wants not to be; where a
            value of `by` has one group only; where every candidate fails.
        """
        numbers, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        if get_tags(self).input_tags.positive_only:
            check_non_negative(numbers, f"{type(self).__name__}: a candidate wants 0 or more, unscaled.")
        check_latencies(y)
        candidates = self._candidates()
        groups = None if groups is None else np.asarray(groups)
        self.choices_: dict[Any, dict[str, Any]] = {}
        self.regressors_: dict[Any, Any] = {}
        for value, part, seen in self._parts(X, numbers):
            own_groups = None if groups is None else groups[part]
            choice = choose(candidates, seen, y[part], own_groups, self.cv)
            self.choices_[value] = choice
            self.regressors_[value] = _fit(candidates[choice["chosen"]], seen, y[part], own_groups)
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
            predicted[part] = self.regressors_[value].predict(seen)
        return predicted

    def _candidates(self) -> dict[str, Any]:
        if self.candidates is None:
            return {"physics": PhysicsRegressor(), "median": DummyRegressor(strategy="median")}
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
    candidates: Mapping[str, Any], X: Any, y: Floats, groups: npt.NDArray[Any] | None, cv: Any
) -> dict[str, Any]:
    """Return which candidate has the smallest error on folds, and all that was found on the way.

    Returns
    -------
    dict
        An entry of `AutoRegressor.choices_`.

    Raises
    ------
    ValueError
        Where no fold can be held out, or every candidate fails.
    """
    folds = grouped_folds(len(y), groups, cv) if isinstance(cv, int) else list(cv.split(X, y, groups))
    mape: dict[str, float | None] = {}
    failed: dict[str, str] = {}
    for name, candidate in candidates.items():
        try:
            mape[name] = _validation_mape(candidate, X, y, groups, folds)
        except Exception as error:  # whatever a candidate raises, the others go on
            mape[name], failed[name] = None, one_line(error)
    errors = {name: error for name, error in mape.items() if error is not None}
    if not errors:
        raise ValueError(f"every candidate fails on a fold: {failed}")
    chosen = min(errors, key=errors.__getitem__)
    return {"chosen": chosen, "mape": mape, "failed": failed, "n_rows": len(y), "n_folds": len(folds)}


def _validation_mape(
    candidate: Any, X: Any, y: Floats, groups: npt.NDArray[Any] | None, folds: Sequence[Fold]
) -> float:
    measured, predicted = [], []
    for rest, fold in folds:
        own_groups = None if groups is None else groups[rest]
        fitted = _fit(candidate, _safe_indexing(X, rest), y[rest], own_groups)
        measured.append(y[fold])
        predicted.append(fitted.predict(_safe_indexing(X, fold)))
    return float(mean_absolute_percentage_error(np.concatenate(measured), np.concatenate(predicted)))


def _fit(candidate: Any, X: Any, y: Floats, groups: npt.NDArray[Any] | None) -> Any:
    takes_groups = groups is not None and has_fit_parameter(candidate, "groups")
    return clone(candidate).fit(X, y, **({"groups": groups} if takes_groups else {}))
