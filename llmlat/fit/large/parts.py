"""How rows that are never loaded are divided between fitting and testing.

Only the requests' ids are held in memory, some 30 bytes each. A split by request is the draw that
`llmlat.fit.split` makes of rows in memory, request for request. A random split is a draw of its own: each
row's place is hashed together with its request's number, drawn from the seed, so the test part's share is
`split.test_size` but for chance.
"""

import math

import numpy as np
import pandas as pd
from sklearn.model_selection import ShuffleSplit

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.split import check_split
from llmlat.sources.parquet.database import GROUP, POSITION, Part
from llmlat.sources.parquet.groups import Groups, groups_of

DRAWN_WHOLE = ("by_request", "by_prompt")
"""Splits that hold out all rows that share the source's `group`."""

_BITS_32 = 2**32


def divide(counted: Part, split: SplitConfig) -> tuple[Groups, Part, Part]:
    """Divide rows, and return their requests, the part to fit on and the part to test on.

    Parameters
    ----------
    counted : Part
    split : SplitConfig
        `by_request` and `by_prompt` hold out whole groups, `random` single rows.

    Raises
    ------
    ConfigError
        Where the share leaves too few rows or requests, or the split is of another kind.
    DatasetError
        Where rows belong to no request.
    """
    check_split(split)
    groups, keep = groups_of(counted), counted.database.keep
    if str(split.name) in DRAWN_WHOLE:
        n_test = _count_test_groups(len(groups.ids), split)
        # GroupShuffleSplit draws so from the sorted ids.
        _, held_out = next(ShuffleSplit(1, test_size=n_test, random_state=split.seed).split(groups.ids))
        keep("held_out", pd.DataFrame({"id": groups.ids[held_out]}))
        train, test = (f"FROM {counted.view} {j} JOIN held_out ON {GROUP} = id" for j in ("ANTI", "SEMI"))
    elif split.name is SplitName.random:
        words = np.random.RandomState(split.seed).randint(_BITS_32, size=len(groups.ids), dtype=np.uint32)
        keep("words", pd.DataFrame({"id": groups.ids, "word": words}))
        border = round(split.test_size * _BITS_32)
        train, test = (f"FROM ({_hashed(counted)}) WHERE _hash {side} {border}" for side in (">=", "<"))
    else:
        raise ConfigError(f"split={split.name}: large data are split random, {' or '.join(DRAWN_WHOLE)}.")
    return groups, counted.among("train", train), counted.among("test", test)


def _count_test_groups(n_groups: int, split: SplitConfig) -> int:
    n_test = math.ceil(split.test_size * n_groups)
    if n_test >= n_groups:
        raise ConfigError(
            f"split={split.name}: {n_groups} groups are too few for split.test_size={split.test_size}; "
            "measure more, or change the share."
        )
    return n_test


def _hashed(counted: Part) -> str:
    """Return the rows with `_hash`: the integer hash lowbias32 of the row's place and its request's number.

    It stands here and not for DuckDB's own hash, which may change with its version, and the split with it
    (Wellons 2018, "Prospecting for hash functions").
    """
    place = f"xor(word::UBIGINT, ({POSITION} & {_BITS_32 - 1})::UBIGINT)"
    table = f"SELECT {counted.view}.*, {place} AS _hash FROM {counted.view} JOIN words ON {GROUP} = id"
    for shift, multiplier in ((16, 0x21F0AAAD), (15, 0xD35A2D97)):
        mixed = f"xor(_hash, _hash >> {shift}) * {multiplier}::UBIGINT % {_BITS_32}"
        table = f"SELECT * REPLACE ({mixed} AS _hash) FROM ({table})"
    return f"SELECT * REPLACE (xor(_hash, _hash >> 15) AS _hash) FROM ({table})"
