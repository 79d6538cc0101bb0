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
    if not 0 < config.test_size < 1:
        raise ConfigError(f"split.test_size={config.test_size}: use a share between 0 and 1, such as 0.2.")
    groups = rows["request_id"].to_numpy()
    by_request = config.name is SplitName.by_request
    units, n_units = ("requests", len(np.unique(groups))) if by_request else ("rows", len(rows))
    n_test = int(np.ceil(config.test_size * n_units))
    too_few_units = n_units - n_test < 1
    if too_few_units or (not by_request and (n_test < MIN_TEST_ROWS or n_units - n_test < MIN_TRAIN_ROWS)):
        raise ConfigError(
            f"split={config.name}: {n_units} {units} are too few for split.test_size={config.test_size}; measure "
            "more (prompt_set, prompt_set.max_new_tokens, collect.repetitions) or change the share."
        )
    if by_request:
        draw = GroupShuffleSplit(n_splits=1, test_size=n_test, random_state=config.seed)
        train, test = next(draw.split(rows, groups=groups))
    else:
        train, test = train_test_split(np.arange(len(rows)), test_size=n_test, random_state=config.seed)
    return np.sort(train), np.sort(test)
