"""Folds of training rows that keep groups apart: what a regressor may choose by."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold, KFold

Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


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
