"""The requests of rows that are never loaded, and whole requests drawn at random from them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.errors import DatasetError
from llmlat.sources.parquet.database import GROUP, Part


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


def groups_of(part: Part) -> Groups:
    """Return the requests of a part, in the order of their ids.

    Raises
    ------
    DatasetError
        Where rows belong to none, or there are none.
    """
    counted = part.database.frame(f"SELECT {GROUP} AS id, count(*) AS size FROM {part.view} GROUP BY {GROUP}")
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


@dataclass(frozen=True)
class Sample:
    """Rows of whole requests, and how many there would have been.

    Attributes
    ----------
    frame : DataFrame
        The columns, `token_latency_ms`, and the request as `_group`; sorted, so that threads leave no trace.
    drawn, all : Groups
    """

    frame: pd.DataFrame
    drawn: Groups
    all: Groups

    def __str__(self) -> str:
        drawn, every = self.drawn, self.all
        if len(drawn.ids) == len(every.ids):
            return f"all rows: {len(every.ids):,} requests, {every.n_rows:,} rows"
        return (
            f"sampled by group: {len(drawn.ids):,} of {len(every.ids):,} requests, "
            f"{drawn.n_rows:,} of {every.n_rows:,} rows"
        )


def sample(part: Part, n_rows: int, seed: int) -> Sample:
    """Draw whole requests until they hold so many rows, and read those rows alone.

    Parameters
    ----------
    part : Part
    n_rows : int
        The last request that is drawn may exceed it.
    seed : int
    """
    every = groups_of(part)
    drawn = draw_groups(every, n_rows, seed)
    part.database.keep("drawn", pd.DataFrame({"id": drawn.ids}))
    frame = part.database.frame(f"FROM {part.view} SEMI JOIN drawn ON {GROUP} = id ORDER BY ALL")
    return Sample(frame, drawn, every)
