"""How rows are divided between fitting and testing."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError

Positions = npt.NDArray[np.int64]
"""Positions of rows in a frame."""

MIN_TRAIN_ROWS, MIN_TEST_ROWS = 3, 2


def split_rows(rows: pd.DataFrame, config: SplitConfig) -> tuple[Positions, Positions]:
    """Divide rows.

    Parameters
    ----------
    rows : DataFrame
        Counted token rows.
    config : SplitConfig
        `random` draws rows; `by_request` draws whole requests, so that no request's tokens are on both sides.

    Returns
    -------
    train, test : ndarray of int64
        Positions in `rows`, in order.

    Raises
    ------
    ConfigError
        Where the share is no share, or leaves too few rows or requests.
    """
    groups = rows["request_id"].to_numpy()
    n_test = count_test_units(len(rows), len(np.unique(groups)), config)
    if config.name is SplitName.by_request:
        draw = GroupShuffleSplit(n_splits=1, test_size=n_test, random_state=config.seed)
        train, test = next(draw.split(rows, groups=groups))
    else:
        train, test = train_test_split(np.arange(len(rows)), test_size=n_test, random_state=config.seed)
    return np.sort(train), np.sort(test)


def count_test_units(n_rows: int, n_requests: int, config: SplitConfig) -> int:
    """Return how many rows, or requests, are held out; it takes counts, so it can be asked before measuring.

    Raises
    ------
    ConfigError
        Where the share leaves too few rows or requests.
    """
    check_split(config)
    by_request = config.name is SplitName.by_request
    units, n_units = ("requests", n_requests) if by_request else ("rows", n_rows)
    n_test = int(np.ceil(config.test_size * n_units))
    fewest_train, fewest_test = (1, 1) if by_request else (MIN_TRAIN_ROWS, MIN_TEST_ROWS)
    if n_test < fewest_test or n_units - n_test < fewest_train:
        raise ConfigError(
            f"split={config.name}: {n_units} {units} are too few for split.test_size={config.test_size}; "
            "measure more (prompt_set, prompt_set.max_new_tokens, collect.repetitions) or change the share."
        )
    return n_test


def check_split(config: SplitConfig) -> None:
    """Refuse a share that is none, and a seed that scikit-learn does not take.

    Raises
    ------
    ConfigError
    """
    if not 0 < config.test_size < 1:
        raise ConfigError(f"split.test_size={config.test_size}: use a share between 0 and 1, such as 0.2.")
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"split.seed={config.seed}: use a whole number from 0 to {2**32 - 1}.")
