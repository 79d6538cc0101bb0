"""Frames of token rows: each column of the type that it is recorded with, also where it is empty."""

from typing import Any

import pandas as pd

from llmlat.measure.prompts import Request
from llmlat.records import COLUMN, Column


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
