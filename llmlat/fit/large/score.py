"""Errors on test rows that are predicted in batches and never held: as `llmlat.fit.evaluate` has them.

What was measured and what was predicted go into a table of DuckDB's, 16 bytes a test row, which moves to disk
where memory is short. Every figure is exact, the medians too.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from llmlat.errors import ConfigError
from llmlat.fit.evaluate import Milliseconds
from llmlat.formulas.sql import number
from llmlat.records import TARGET
from llmlat.sources.parquet.database import Database, Part

TESTED = "tested"
MEASURED, PREDICTED = "measured_ms", "predicted_ms"
N_BINS = 4096
N_SORTED = 200_000

Predict = Callable[[pd.DataFrame], Milliseconds]
Ask = Callable[[str], list[tuple[Any, ...]]]


def predict_part(part: Part, predict: Predict) -> None:
    """Predict the rows of a part in batches, into the table that `error_block` reads.

    Raises
    ------
    ConfigError
        Where there are none.
    """
    part.database.ask(f"CREATE OR REPLACE TABLE {TESTED} ({MEASURED} DOUBLE, {PREDICTED} DOUBLE)")
    for batch in part.database.batches(f"SELECT {part.selected} FROM {part.view}"):
        predicted = predict(batch[list(part.columns)])
        part.database.append(TESTED, pd.DataFrame({MEASURED: batch[TARGET], PREDICTED: predicted}))
    if not part.database.ask(f"SELECT count(*) FROM {TESTED}")[0][0]:
        raise ConfigError("split.test_size: no row was drawn to test on; hold more out, or measure more.")


def error_block(database: Database, predicted: str = PREDICTED) -> dict[str, Any]:
    """Return the errors on the rows that `predict_part` has predicted.

    Parameters
    ----------
    database : Database
    predicted : str
        SQL expression of the prediction; a number for a baseline that is constant.

    Returns
    -------
    dict
        As `llmlat.fit.evaluate.error_block`.
    """
    miss = f"abs({MEASURED} - {predicted})"
    share = f"{miss} / greatest(abs({MEASURED}), {number(sys.float_info.epsilon)})"
    mean = f"(SELECT favg({MEASURED}) FROM {TESTED})"
    n, mae, squared, mape, spread, varies = database.ask(
        f"SELECT count(*), favg({miss}), fsum(pow({miss}, 2)), favg({share}), "
        f"fsum(pow({MEASURED} - {mean}, 2)), max({MEASURED}) > min({MEASURED}) FROM {TESTED}"
    )[0]
    return {
        "n": n,
        "mae_ms": mae,
        "rmse_ms": float(np.sqrt(squared / n)),
        "median_ae_ms": median(database.ask, TESTED, miss),
        "r2": 1.0 - squared / spread if varies else None,
        "mape": mape,
    }


def median(ask: Ask, relation: str, value: str, within: tuple[int, float, float] | None = None) -> float:
    """Return the exact median of an expression, with memory for a few of its values.

    Rows are counted in bins between two bounds, which then close in on the bin of the middle rank, until
    what is left is little enough to sort. That takes two queries, more only where values crowd together.

    Parameters
    ----------
    ask : callable
        Answers a query: `Database.ask`, or `Database.scan` where the relation lies in files.
    relation : str
        A table or a view, with at least one row.
    value : str
        SQL expression; finite in every row.
    within : tuple of int, float and float, optional
        The number of rows and bounds to begin with, where they are known; another query finds them.
    """
    values = f"(SELECT {value} AS v FROM {relation})"
    n, low, high = within or _bounds(ask, values)
    ranks = ((n - 1) // 2, n // 2)
    while True:
        counts, lows, highs = zip(*ask(_bins(values, low, high)), strict=True)
        ends = np.cumsum(counts)
        first, second = (int(np.searchsorted(ends, rank, side="right")) for rank in ranks)
        if first != second:  # the last value of the one bin and the first of the next
            return (float(highs[first]) + float(lows[second])) / 2
        low, high = lows[first], highs[first]
        if low == high:
            return float(low)
        if counts[first] <= N_SORTED:
            below = int(ends[first]) - counts[first]
            inside = ask(
                f"SELECT v FROM {values} WHERE v BETWEEN {number(low)} AND {number(high)} ORDER BY v"
            )
            return sum(float(inside[rank - below][0]) for rank in ranks) / 2


def _bounds(ask: Ask, values: str) -> tuple[int, float, float]:
    """Return the number of rows, and bounds of their median."""
    n, least, most, mean, deviation = ask(
        f"SELECT count(*), min(v), max(v), avg(v), stddev_pop(v) FROM {values}"
    )[0]
    # No median is further from the mean (Hotelling and Solomons 1932).
    return n, max(least, mean - deviation), min(most, mean + deviation)


def _bins(values: str, low: float, high: float) -> str:
    """Return the query for how many values each bin holds, its smallest and its largest, in rising order.

    What lies outside the bounds has a bin on either side. Rounding moves edges, never a larger value into a
    lower bin.
    """
    width = (high - low) / N_BINS or high - low or 1.0
    place = f"greatest(-1, least({N_BINS}, floor((v - {number(low)}) / {number(width)})))::INTEGER"
    return f"SELECT count(*), min(v), max(v) FROM {values} GROUP BY {place} ORDER BY min(v)"
