"""What the columns of somebody's table are: numbers, texts, or neither."""

import decimal
from typing import Any

import pandas as pd
import pyarrow as pa

NEITHER = "neither"
"""The attribute of a table's frame that names the columns which are neither numbers nor texts."""

MISSING_TEXT = "nan"


def settled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose columns are numbers or texts, and whose others are left out.

    Categories become what they are categories of, decimals floating point, moments nanoseconds since 1970.
    Durations stay: they know their unit. A text that is missing is `nan`, as predictor files and SQL spell
    it: what compares, sorts or counts texts later meets nothing else. Lists, structures and bytes can be no
    feature; `attrs` names them.
    """
    found = {str(name): _settled(rows[name]) for name in rows.columns}
    kept = {name: column for name, column in found.items() if column is not None}
    settled_rows = pd.DataFrame(kept, index=rows.index)
    settled_rows.attrs[NEITHER] = [name for name in found if name not in kept]
    return settled_rows


def _settled(column: pd.Series) -> pd.Series | None:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _settled(column.astype(column.cat.categories.dtype))
    if isinstance(column.dtype, pd.ArrowDtype) and pa.types.is_decimal(column.dtype.pyarrow_dtype):
        return column.astype("float64")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _nanoseconds(column)
    if column.dtype != object:
        return _all_told(column) if pd.api.types.is_string_dtype(column.dtype) else column
    first = next(iter(column.dropna()), None)
    if isinstance(first, decimal.Decimal):
        return column.astype("float64")
    if first is None:
        return column.astype("float64")
    if isinstance(first, bool | int | float):
        return column
    if isinstance(first, str):
        return _all_told(column)
    try:
        return _nanoseconds(pd.to_datetime(column)) if hasattr(first, "isoformat") else None
    except (TypeError, ValueError):
        return None


def _all_told(column: pd.Series) -> pd.Series:
    return column.fillna(MISSING_TEXT) if column.hasnans else column


def _nanoseconds(moments: pd.Series) -> pd.Series:
    if getattr(moments.dt, "tz", None) is not None:
        moments = moments.dt.tz_convert("UTC").dt.tz_localize(None)
    whole = moments.astype("datetime64[ns]").astype("int64")
    return whole.astype("float64").mask(moments.isna()) if moments.isna().any() else whole


def durations_in_ms(rows: pd.DataFrame, but: str) -> pd.DataFrame:
    """Return rows whose durations, `but` one column's, are numbers of milliseconds."""
    durations = [name for name in rows if pd.api.types.is_timedelta64_dtype(rows[name]) and name != but]
    if not durations:
        return rows
    rows = rows.copy()
    for name in durations:
        rows[name] = milliseconds(rows[name])
    return rows


def milliseconds(durations: pd.Series) -> Any:
    """Return durations in milliseconds, NaN where there is none."""
    return durations.astype("timedelta64[ns]").dt.total_seconds().to_numpy() * 1e3


def texts(column: pd.Series, missing: str = "not told") -> pd.Series:
    """Return a column as texts, and a word where there is nothing: pandas 3 would keep NaN."""
    return column.astype("string").fillna(missing).replace(MISSING_TEXT, missing).astype(object)
