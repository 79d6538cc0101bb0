"""How rows that are never loaded are divided between fitting and testing, and how whole requests are drawn.

Only the requests' ids are held in memory, some 30 bytes each. A split by request is the draw that
`llmlat.predict.split` makes of rows in memory, request for request. A random split is a draw of its own: each
row's place is hashed together with its request's number, drawn from the seed, so the test part's share is
`split.test_size` but for chance.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import ShuffleSplit

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, DatasetError
from llmlat.predict.large.rows import COUNTED, GROUP, POSITION, Rows
from llmlat.predict.split import count_test_units

TRAIN, TEST = "train", "test"
_BITS_32 = 2**32


@dataclass(frozen=True)
class Groups:
    """The requests of a part.

    Attributes
    ----------
    ids : ndarray, shape (n_groups,)
        In order.
    sizes : ndarray of int64, shape (n_groups,)
        Rows of each.
    """

    ids: npt.NDArray[Any]
    sizes: npt.NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        """Rows of all of them."""
        return int(self.sizes.sum())


def divide(rows: Rows, split: SplitConfig) -> Groups:
    """Make the views `train` and `test`, and return the requests of both.

    Parameters
    ----------
    rows : Rows
    split : SplitConfig
        `by_request` holds out whole requests (rows that share the source's `group`), `random` single rows.

    Raises
    ------
    ConfigError
        Where the share leaves too few rows or requests, or the split is of another kind.
    DatasetError
        Where rows belong to no request.
    """
    groups = groups_of(rows, COUNTED)
    n_test = count_test_units(groups.n_rows, len(groups.ids), split)
    if split.name is SplitName.by_request:
        # GroupShuffleSplit draws so from the sorted ids.
        _, held_out = next(ShuffleSplit(1, test_size=n_test, random_state=split.seed).split(groups.ids))
        rows.keep("held_out", pd.DataFrame({"id": groups.ids[held_out]}))
        for part, join in ((TRAIN, "ANTI"), (TEST, "SEMI")):
            rows.ask(f"CREATE VIEW {part} AS FROM {COUNTED} {join} JOIN held_out ON {GROUP} = id")
    elif split.name is SplitName.random:
        words = np.random.RandomState(split.seed).randint(_BITS_32, size=len(groups.ids), dtype=np.uint32)
        rows.keep("words", pd.DataFrame({"id": groups.ids, "word": words}))
        drawn = f"_hash < {round(split.test_size * _BITS_32)}"
        for part, condition in ((TRAIN, f"NOT {drawn}"), (TEST, drawn)):
            rows.ask(f"CREATE VIEW {part} AS FROM ({_HASHED}) WHERE {condition}")
    else:
        raise ConfigError(f"split={split.name}: large data are split at random or by_request.")
    return groups


def groups_of(rows: Rows, relation: str) -> Groups:
    """Return the requests of a view, in the order of their ids.

    Raises
    ------
    DatasetError
        Where rows belong to none, or there are none.
    """
    counted = rows.frame(f"SELECT {GROUP} AS id, count(*) AS size FROM {relation} GROUP BY {GROUP}")
    if counted["id"].isna().any():
        raise DatasetError("large data: some rows belong to no request (the group is empty); leave them out.")
    counted = counted.sort_values("id", ignore_index=True)
    return Groups(counted["id"].to_numpy(), counted["size"].to_numpy(dtype=np.int64))


def draw_groups(groups: Groups, n_rows: int, seed: int) -> Groups:
    """Return whole requests, drawn at random until they hold so many rows; at least one, at most all."""
    order = np.random.RandomState(seed).permutation(len(groups.ids))
    reached = np.cumsum(groups.sizes[order])
    drawn = np.sort(order[: int(np.searchsorted(reached, n_rows)) + 1])
    return Groups(groups.ids[drawn], groups.sizes[drawn])


def _mixed(stage: str, multiplier: int, shift: int) -> str:
    return (
        f"SELECT * REPLACE (xor(_hash, _hash >> {shift}) * {multiplier}::UBIGINT % {_BITS_32} AS _hash) "
        f"FROM ({stage})"
    )


# The integer hash lowbias32 (Wellons 2018, "Prospecting for hash functions"), a step a subquery. DuckDB's own
# hash may change with its version, and the split with it.
_HASHED = (
    f"SELECT {COUNTED}.*, xor(word::UBIGINT, ({POSITION} & {_BITS_32 - 1})::UBIGINT) AS _hash "
    f"FROM {COUNTED} JOIN words ON {GROUP} = id"
)
for _multiplier, _shift in ((0x21F0AAAD, 16), (0xD35A2D97, 15)):
    _HASHED = _mixed(_HASHED, _multiplier, _shift)
_HASHED = f"SELECT * REPLACE (xor(_hash, _hash >> 15) AS _hash) FROM ({_HASHED})"
