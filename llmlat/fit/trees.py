"""Boosted trees on the same features and folds: what a line misses."""

import functools

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from llmlat.fit.evaluate import Milliseconds
from llmlat.fit.threads import one_thread


def boosted_trees(
    features: pd.DataFrame, latency_ms: Milliseconds, fold: npt.NDArray[np.int64]
) -> Milliseconds:
    """Return what boosted trees predict of rows out of fold.

    They do not depend on the regressor that is fitted, so jobs that sweep its settings share the fits.

    Parameters
    ----------
    features : DataFrame
        As numbers.
    latency_ms : ndarray of float64, shape (n_rows,)
    fold : ndarray of int64, shape (n_rows,)
        The number of the fold that each row is held out with.
    """
    numbers = np.column_stack([features.to_numpy(dtype=np.float64), latency_ms, fold])
    return np.frombuffer(_predicted(numbers.tobytes(), numbers.shape[1]), dtype=np.float64)


@functools.lru_cache(maxsize=1)
def _predicted(numbers: bytes, n_columns: int) -> bytes:
    """Fit on the numbers themselves, so that what is remembered can be of no other rows."""
    table = np.frombuffer(numbers, dtype=np.float64).reshape(-1, n_columns)
    features, latency_ms, fold = table[:, :-2], table[:, -2], table[:, -1]
    predicted_ms = np.empty(len(table))
    with one_thread():
        for held_out in np.unique(fold):
            is_held_out = fold == held_out
            trees = HistGradientBoostingRegressor(random_state=0)
            trees.fit(features[~is_held_out], latency_ms[~is_held_out])
            predicted_ms[is_held_out] = trees.predict(features[is_held_out])
    return predicted_ms.tobytes()
