"""Folds of training rows that keep groups apart: what a regressor may choose by, and settle its size by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.validation import has_fit_parameter

from llmlat.fit.regressors.criterion import score

Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

BY_GROUP, BY_SIZE = "by_group", "by_size"
LARGER_SHARE = 0.3  # of the groups, held out by size


def folds_of(folds: str, X: Any, y: Any, groups: Any, n_folds: int) -> list[list[Fold]]:
    """Return the divisions of training rows that a choice has to hold in, each a list of folds.

    Parameters
    ----------
    folds : {'by_group', 'by_size'}
        Groups drawn into folds; or these, and beside them the largest groups held out together, which asks
        how a fit goes on beyond the sizes that it knows.
    X : ndarray of float64, shape (n_rows, n_features)
    y : ndarray of float64, shape (n_rows,)
    groups : array-like, shape (n_rows,), or None
    n_folds : int
        How many at most.

    Raises
    ------
    ValueError
        Where there is one group only, all are of one size, or `folds` is neither.
    """
    if folds not in (BY_GROUP, BY_SIZE):
        raise ValueError(f"folds={folds}: use {BY_GROUP} or {BY_SIZE}")
    found = [grouped_folds(len(y), groups, n_folds)]
    return found if folds == BY_GROUP else [*found, [_larger(X, y, groups)]]


def grouped_folds(n_rows: int, groups: Any, n_folds: int, seed: int = 0) -> list[Fold]:
    """Return the positions of each fold's rest and of the fold.

    Parameters
    ----------
    n_rows : int
    groups : array-like, shape (n_rows,), or None
        Rows of one group stay together; None where each row stands alone.
    n_folds : int
        How many at most; with fewer groups there is one fold a group.
    seed : int
        Shuffles rows that stand alone.

    Raises
    ------
    ValueError
        Where there is one group only, so that nothing can be held out.
    """
    n_groups = n_rows if groups is None else len(np.unique(np.asarray(groups)))
    if n_groups < 2:
        unit = "row" if groups is None else "group of rows"
        raise ValueError(
            f"n_samples={n_rows}, 1 {unit}: no part can be held out to choose by; at least 2 are needed"
        )
    folds = min(n_folds, n_groups)
    if groups is None:
        return list(KFold(folds, shuffle=True, random_state=seed).split(np.empty(n_rows)))
    return list(GroupKFold(folds).split(np.empty(n_rows), groups=groups))


def worst_score(criterion: str, y: Any, divisions: Sequence[Sequence[Fold]], predicted: Any) -> float:
    """Return the score of held-out predictions in the division that they do worst in.

    Parameters
    ----------
    criterion : str
    y : ndarray of float64, shape (n_rows,)
    divisions : list of list of folds
    predicted : list of ndarray
        For each division, the predictions of its folds, one after the other.
    """
    held = [np.concatenate([fold for _, fold in division]) for division in divisions]
    return max(score(criterion, y[rows], each) for rows, each in zip(held, predicted, strict=True))


def fitted(regressor: Any, X: Any, y: Any, groups: Any) -> Any:
    """Return a fitted copy of a regressor, which is told the groups where it asks for them."""
    takes_groups = groups is not None and has_fit_parameter(regressor, "groups")
    return clone(regressor).fit(X, y, **({"groups": groups} if takes_groups else {}))


def settled(regressor: Any) -> Any:
    """Return an unfitted copy of a fitted regressor, with what its fit found by folds of its own as settings.

    So that folds around it need not find it again: a size is not worth twenty fits more.
    """
    return regressor.settled() if hasattr(regressor, "settled") else clone(regressor)


def _larger(X: Any, y: Any, groups: Any) -> Fold:
    """Hold out the largest groups, by the ranks of those columns that the latency rises with."""
    ranks = rankdata(X, axis=0)
    rising = np.maximum(_correlations(ranks, rankdata(y)), 0.0)
    size = ranks @ rising
    if groups is not None:
        _, own = np.unique(np.asarray(groups), return_inverse=True)
        size = (np.bincount(own, size) / np.bincount(own))[own]
    each = size if groups is None else np.unique(size)
    is_larger = size > np.quantile(each, 1 - LARGER_SHARE, method="lower")
    if not is_larger.any():
        raise ValueError(f"folds={BY_SIZE}: the rows are all of one size; use {BY_GROUP}")
    return np.flatnonzero(~is_larger), np.flatnonzero(is_larger)


def _correlations(columns: Any, with_what: Any) -> Any:
    centred, other = columns - columns.mean(axis=0), with_what - with_what.mean()
    norms = np.linalg.norm(centred, axis=0) * np.linalg.norm(other)
    return np.divide(other @ centred, norms, out=np.zeros_like(norms), where=norms > 0)
