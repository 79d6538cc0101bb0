"""Boosted trees on the same features and held-out requests: what a line misses."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from llmlat.fit.evaluate import Milliseconds, error_block
from llmlat.fit.threads import one_thread


def boosted_trees(
    train: pd.DataFrame, test: pd.DataFrame, train_ms: Milliseconds, test_ms: Milliseconds
) -> dict[str, Any]:
    """Return the errors of boosted trees.

    They do not depend on the regressor that is fitted, so jobs that sweep its settings share one fit.

    Parameters
    ----------
    train, test : DataFrame
        Features, as numbers.
    train_ms, test_ms : ndarray of float64, shape (n_rows,)
        The rows' latencies.

    Returns
    -------
    dict
        An error block.
    """
    numbers = [
        np.column_stack([features.to_numpy(dtype=np.float64), latency_ms]).tobytes()
        for features, latency_ms in ((train, train_ms), (test, test_ms))
    ]
    return dict(_errors(*numbers, n_columns=train.shape[1] + 1))


@functools.lru_cache(maxsize=4)
def _errors(train: bytes, test: bytes, n_columns: int) -> dict[str, Any]:
    """Fit and test on the numbers themselves, so that what is remembered can be of no other rows."""
    fitted_on, tested_on = _table(train, n_columns), _table(test, n_columns)
    trees = HistGradientBoostingRegressor(random_state=0)
    with one_thread():
        trees.fit(fitted_on[:, :-1], fitted_on[:, -1])
        return error_block(tested_on[:, -1], trees.predict(tested_on[:, :-1]))


def _table(numbers: bytes, n_columns: int) -> npt.NDArray[np.float64]:
    return np.frombuffer(numbers, dtype=np.float64).reshape(-1, n_columns)
