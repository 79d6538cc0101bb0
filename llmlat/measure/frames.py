"""Frames of token rows: typed as they are recorded, when their steps ran, and the flags on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.measure.prompts import Request
from llmlat.records import COLUMN, FLAG_SEPARATOR, FLAGS, Column

Nanoseconds = npt.NDArray[np.int64]
Verdict = npt.NDArray[np.bool_]
"""For each row, whether a condition holds."""


def request_columns(request: Request) -> dict[str, Any]:
    """Return what all rows of a request say alike."""
    cell = request.cell
    return {
        "request_id": request.request_id,
        "repetition": request.repetition,
        "engine": cell.engine,
        "batch_size": cell.batch_size,
        "num_beams": cell.num_beams,
        "temperature": cell.temperature,
        "top_k": cell.top_k,
        "top_p": cell.top_p,
        "is_warmup": request.is_warm_up,
    }


def typed_frame(n_rows: int, columns: dict[str, Any]) -> pd.DataFrame:
    """Return rows whose columns have the types that they are recorded with, also where they are empty."""
    index = pd.RangeIndex(n_rows)
    return pd.DataFrame(
        {name: pd.Series(values, index, _dtype(COLUMN[name])) for name, values in columns.items()}
    )


def _dtype(column: Column) -> str:
    """Return the type of a column in pandas; whole numbers that may be missing stay whole."""
    name = str(column.dtype)
    if column.nullable and name.startswith("int"):
        return name.capitalize()
    return {"string": "str", "double": "float64"}.get(name, name)


def step_spans(rows: pd.DataFrame) -> tuple[Nanoseconds, Nanoseconds]:
    """Return when each row's step began and ended, in nanoseconds on the rows' clock."""
    end_ns = rows["completed_at_ns"].to_numpy(dtype=np.int64)
    # Nanoseconds went into the milliseconds, so rounding brings back exactly those.
    latency_ns = np.rint(rows["token_latency_ms"].to_numpy(dtype=np.float64) * 1e6).astype(np.int64)
    return end_ns - latency_ns, end_ns


def with_flags(flags: pd.Series, found: Mapping[str, Verdict]) -> pd.Series:
    """Return flags as text, in the order of the glossary, with those found beside those there were."""
    texts, which = np.unique(flags.to_numpy(dtype=str), return_inverse=True)
    combination = np.zeros(len(flags), dtype=np.int64)
    for place, name in enumerate(FLAGS):
        had = np.array([name in text.split(FLAG_SEPARATOR) for text in texts], dtype=bool)[which]
        combination |= (had | found.get(name, False)).astype(np.int64) << place
    numbers, which = np.unique(combination, return_inverse=True)
    words = [
        FLAG_SEPARATOR.join(name for place, name in enumerate(FLAGS) if number >> place & 1)
        for number in numbers
    ]
    return pd.Series(np.array(words, dtype=object)[which], index=flags.index)
