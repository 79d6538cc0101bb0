"""What the columns of a part hold: where they lie, and what speaks against fitting on them."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from llmlat.errors import DatasetError
from llmlat.formulas.sql import name
from llmlat.records import TARGET
from llmlat.sources.parquet.database import Part

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Where features and latencies of some rows lie.

    Attributes
    ----------
    n : int
        Rows.
    low, high, mean : ndarray of float64, shape (n_features,)
    latency_mean_ms : float
    """

    n: int
    low: Floats
    high: Floats
    mean: Floats
    latency_mean_ms: float


def summarise(part: Part) -> Summary:
    """Read every feature and the latency once.

    Parameters
    ----------
    part : Part
        Of numbers.

    Raises
    ------
    DatasetError
        Where there are no rows, or a feature or latency of some is none: missing, infinite, not above 0.
    """
    columns = [*part.columns, TARGET]
    told = ", ".join(f"count({c}), min({c}), max({c}), avg({c})" for c in map(name, columns))
    n, exact_mean, *found = part.database.scan(f"SELECT count(*), favg({TARGET}), {told} FROM {part.view}")[0]
    if not n:
        raise DatasetError("large data: no rows are left to fit; measure more, or let more of them through.")
    by_column = np.array(found, dtype=np.float64).reshape(len(columns), 4)
    is_complete = (by_column[:, 0] == n) & np.isfinite(by_column[:, 1:]).all(axis=1)
    for column in [column for column, is_whole in zip(columns, is_complete, strict=True) if not is_whole]:
        _refuse(part, column, f"coalesce(isfinite({name(column)}), FALSE)", "a number")
    if by_column[-1, 1] <= 0:
        _refuse(part, TARGET, f"{TARGET} > 0", "above 0")
    _, low, high, mean = by_column[:-1].T
    return Summary(n, low, high, mean, exact_mean)


def _refuse(part: Part, column: str, condition: str, what: str) -> NoReturn:
    """Say how many rows fail a condition that every row must meet."""
    n, n_met = part.database.scan(f"SELECT count(*), count(*) FILTER ({condition}) FROM {part.view}")[0]
    remedy = "leave those rows out" if column == TARGET else "leave the column or those rows out"
    raise DatasetError(f"large data: {column} is not {what} in {n - n_met:,} of {n:,} rows; {remedy}.")
