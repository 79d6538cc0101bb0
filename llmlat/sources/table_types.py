"""What the columns of somebody's table are: numbers, texts, or neither."""

import decimal
from typing import Any

import pandas as pd
import pyarrow as pa


def settled(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose columns are numbers or texts, and whose others are left out.

    Categories become what they are categories of, decimals floating point, moments nanoseconds since 1970.
    Durations stay: they know their unit. Lists, structures and bytes can be no feature.
    """
    found = {str(name): _settled(rows[name]) for name in rows.columns}
    return pd.DataFrame(
        {name: column for name, column in found.items() if column is not None}, index=rows.index
    )


def _settled(column: pd.Series) -> pd.Series | None:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _settled(column.astype(column.cat.categories.dtype))
    if isinstance(column.dtype, pd.ArrowDtype) and pa.types.is_decimal(column.dtype.pyarrow_dtype):
        return column.astype("float64")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _nanoseconds(column)
    if column.dtype != object:
        return column
    first = next(iter(column.dropna()), None)
    if isinstance(first, decimal.Decimal):
        return column.astype("float64")
    if first is None or isinstance(first, str | bool | int | float):
        return column
    try:
        return _nanoseconds(pd.to_datetime(column)) if hasattr(first, "isoformat") else None
    except (TypeError, ValueError):
        return None


def _nanoseconds(moments: pd.Series) -> pd.Series:
    if getattr(moments.dt, "tz", None) is not None:
        moments = moments.dt.tz_convert("UTC").dt.tz_localize(None)
    whole = moments.astype("datetime64[ns]").astype("int64")
    return whole.astype("float64").mask(moments.isna()) if moments.isna().any() else whole


def milliseconds(durations: pd.Series) -> Any:
    """Return durations in milliseconds, NaN where there is none."""
    return durations.astype("timedelta64[ns]").dt.total_seconds().to_numpy() * 1e3


def texts(column: pd.Series, missing: str = "not told") -> pd.Series:
    """Return a column as texts, and a word where there is nothing: pandas 3 would keep NaN."""
    return column.astype("string").fillna(missing).astype(object)
