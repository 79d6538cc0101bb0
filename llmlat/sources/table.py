"""Rows of somebody's own table: a CSV or parquet file, and which of its columns is what."""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import llmlat
from llmlat.config import TableConfig, TimeUnit
from llmlat.errors import ConfigError
from llmlat.formulas.formula import Formula, FormulaError, parse
from llmlat.records import (
    BEFORE,
    COLUMNS,
    DECODE,
    FACTS,
    KNOWN,
    PHASES,
    PREFILL,
    PROMPT,
    REQUEST,
    TARGET,
    Column,
)
from llmlat.sources import Rows
from llmlat.sources.csv_file import numbers_where_they_are
from llmlat.sources.table_file import is_parquet, key_of_table, peek, read_table
from llmlat.sources.table_types import milliseconds, texts

log = logging.getLogger(__name__)

MS_PER = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
# A step of a language model that takes less, or more, is more likely in another unit.
LEAST_PLAUSIBLE_MS, MOST_PLAUSIBLE_MS = 0.02, 10_000.0

IS_PREFILL = "is_prefill"
"""What tells first tokens from others, where a table maps it; a feature as well."""

MADE = (REQUEST, PROMPT, TARGET)
"""What is worked out, whatever a table has under these names: none of them can be a feature."""

PLACES = ("phase", "token_index", "padded_context_length", "batch_context_tokens")
"""What is worked out where a table has nothing under these names."""

PLAIN: dict[str, Any] = {
    **{c.name: np.nan for c in (*COLUMNS, *FACTS, *BEFORE) if c.nullable and c.name not in PLACES},
    "session_id": 0,
    "session_request": 1,
    "is_warmup": False,
    "first_visit": False,
    "flags": "",
    "sequence_index": 0,
    "repetition": 0,
    "engine": "table",
    "batch_size": 1,
    "num_beams": 1,
    "temperature": 0.0,
    "model": "table",
    "quantization": "not told",
}
"""What a table that says nothing of it is taken to be."""


def known_columns(table: TableConfig) -> dict[str, Column]:
    """Return the columns that features can be made of; read before anything is fitted.

    Raises
    ------
    ConfigError, DatasetError
    """
    rows = peek(table) if is_parquet(table) else read_table(table)
    _check(table, rows)
    # Their types are those of the rows that are kept.
    with suppress(ConfigError):
        rows = _kept(table, rows)
    ours = {name: KNOWN[name] for name in (*mapped(table), *PLAIN) if name in KNOWN}
    if IS_PREFILL in mapped(table):
        ours[IS_PREFILL] = Column(IS_PREFILL, pa.bool_(), "", "As table.columns.is_prefill says.")
    own = {
        name: Column(
            name,
            pa.float64() if pd.api.types.is_numeric_dtype(rows[name]) else pa.string(),
            "",
            "A column of the table.",
            known_before_step=name != table.latency,
        )
        for name in map(str, rows.columns)
    }
    places = {name: KNOWN[name] for name in PLACES if name not in own}
    if "context_length" not in {*ours, *own}:
        places = {name: column for name, column in places.items() if "context" not in name}
    made = {name: KNOWN[name] for name in MADE if name != table.latency}
    return {**own, **{name: column for name, column in ours.items() if name not in own}, **places, **made}


def rows_of_table(table: TableConfig, experiment: str) -> Rows:
    """Return the rows of a table.

    Parameters
    ----------
    table : TableConfig
    experiment : str

    Raises
    ------
    ConfigError
        Where a column, a formula or the unit cannot be; the line names it, and counts.
    DatasetError
        Where the file cannot be read.
    """
    return rows_of_frame(table, read_table(table), experiment)


def rows_of_frame(table: TableConfig, read: pd.DataFrame, experiment: str) -> Rows:
    """Return the rows of a table that has been read, or of a part of it; see `rows_of_table`."""
    _check(table, read)
    rows = _kept(table, read)
    notices: list[str] = []
    _note_broken_numbers(table, rows, notices)
    filled = rows.assign(**{k: v for k, v in PLAIN.items() if k not in rows})
    for name, text in mapped(table).items():
        filled[name] = _mapped_values(name, text, rows, table)
    filled = _typed(filled, rows, mapped(table))
    filled = filled.drop(columns=[name for name in MADE if name in filled and name in rows])
    filled[TARGET] = _latency_ms(table, rows, notices)
    filled[REQUEST], filled[PROMPT] = _groups(table, rows, notices)
    filled = _with_places(filled, table)
    key = key_of_table(table)
    about = _about(table, filled, experiment, key, notices)
    described = {"key": key, "path": str(Path(str(table.path)).resolve()), "n_rows": len(filled)}
    described["provenance"] = {"table": {**asdict(table), "unit": str(table.unit)}}
    return Rows(filled, filled, about, described)


def mapped(table: TableConfig) -> dict[str, str]:
    """Return which of our columns a table has, each as a column or a formula of its own."""
    return {name: text for name, text in asdict(table.columns).items() if text is not None}


def _mapped_values(name: str, text: str, rows: pd.DataFrame, table: TableConfig) -> Any:
    """Return the values of one of our columns; numbers are all there, and finite."""
    key = f"table.columns.{name}"
    if table.latency in ([text] if text in rows else parse_as(key, text).names):
        raise ConfigError(f"{key}={text}: it reads {table.latency}, which is what is to be predicted.")
    values = pd.Series(_evaluated(text, rows, key))
    if name in KNOWN and KNOWN[name].is_text:
        return texts(values).to_numpy()
    return _numbers(values, f"{key}={text}")


def _typed(filled: pd.DataFrame, rows: pd.DataFrame, mapped_names: Collection[str]) -> pd.DataFrame:
    """Hold the columns of a table that have one of our names to what ours are."""
    given = [
        column
        for column in KNOWN.values()
        if column.name in rows and column.name not in (*MADE, *mapped_names)
    ]
    for column in given:
        is_text = not pd.api.types.is_numeric_dtype(filled[column.name])
        if is_text != column.is_text:
            raise ConfigError(
                f"table.path: its column {column.name} holds {'texts' if is_text else 'numbers'}, and "
                f"llmlat's of that name holds {'texts' if column.is_text else 'numbers'}; rename it."
            )
        if pa.types.is_boolean(column.dtype):
            filled[column.name] = filled[column.name].astype(bool)
        elif not column.is_text and not column.nullable:
            filled[column.name] = _numbers(filled[column.name], f"table.path: its column {column.name}")
    return filled


def _note_broken_numbers(table: TableConfig, rows: pd.DataFrame, notices: list[str]) -> None:
    """Tell of columns that are numbers but for some texts: as texts, each value would be a feature."""
    for name in rows.columns:
        if pd.api.types.is_numeric_dtype(rows[name]) or name in {table.latency, *table.group}:
            continue
        given = rows[name].dropna()
        broken = given[pd.to_numeric(given, errors="coerce").isna()]
        if 0 < len(broken) < len(given) / 2:
            notices.append(
                f"table.path: its column {name} is taken for texts, as {len(broken)} of {len(rows)} rows "
                f"hold no number (such as {broken.iloc[0]}); mend them, or leave them out with table.where."
            )
            log.warning(notices[-1])


def _numbers(values: pd.Series, key: str) -> Any:
    if not pd.api.types.is_numeric_dtype(values):
        raise ConfigError(f"{key}: it holds texts; a number is needed.")
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    for is_bad, what in ((np.isnan(numbers), "missing"), (np.isinf(numbers), "infinite")):
        if is_bad.any():
            raise ConfigError(
                f"{key}: {what} in {int(is_bad.sum())} of {len(numbers)} rows; leave them out with "
                "table.where, or mend them."
            )
    return values.to_numpy()


def _check(table: TableConfig, rows: pd.DataFrame) -> None:
    if table.latency is None:
        raise ConfigError(f"table.latency: name the column to predict; there are {', '.join(rows.columns)}.")
    for key, names in (("latency", [table.latency]), ("group", table.group)):
        for name in names:
            if name not in rows:
                raise ConfigError(f"table.{key}={name}: no such column; there are {', '.join(rows.columns)}.")


def _kept(table: TableConfig, rows: pd.DataFrame) -> pd.DataFrame:
    if table.where is None:
        return rows.reset_index(drop=True)
    kept: pd.DataFrame = rows[_is_kept(table.where, rows)].reset_index(drop=True)
    if kept.empty:
        raise ConfigError(f"table.where={table.where}: it keeps none of {len(rows)} rows.")
    # What was a text for the sake of a row that is gone is a number now.
    return kept if is_parquet(table) else numbers_where_they_are(kept)


def _is_kept(where: str, rows: pd.DataFrame) -> Any:
    values = pd.Series(_evaluated(where, rows, "table.where"), index=rows.index)
    if not pd.api.types.is_numeric_dtype(values):
        raise ConfigError(f"table.where={where}: it holds texts; compare them, as in {where} == 'this'.")
    return values != 0


def _evaluated(text: str, rows: pd.DataFrame, key: str) -> Any:
    """Return a column, or the values of a formula on columns."""
    if text in rows:
        return rows[text].to_numpy()
    formula = parse_as(key, text)
    absent = next((name for name in formula.names if name not in rows), None)
    if absent:
        raise ConfigError(f"{key}={text}: there is no column {absent}; there are {', '.join(rows.columns)}.")
    try:
        return np.broadcast_to(formula({name: rows[name].to_numpy() for name in formula.names}), len(rows))
    except FormulaError as error:
        raise ConfigError(f"{key}: {error}.") from error


def parse_as(key: str, text: str) -> Formula:
    """Return the formula of a setting.

    Raises
    ------
    ConfigError
        Naming the key, where it is none.
    """
    try:
        return parse(text)
    except FormulaError as error:
        raise ConfigError(f"{key}: {error}.") from error


def _latency_ms(table: TableConfig, rows: pd.DataFrame, notices: list[str]) -> Any:
    name = str(table.latency)
    if pd.api.types.is_timedelta64_dtype(rows[name]):
        rows, table = rows.copy(), replace(table, unit=TimeUnit.ms)
        rows[name] = milliseconds(rows[name])
    try:
        given = rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"table.latency={name}: it holds texts, such as {rows[name].iloc[0]!r}; name a column of numbers."
        ) from error
    for is_bad, what in (
        (np.isnan(given), "missing"),
        (np.isinf(given), "infinite"),
        (given <= 0, "0 or below"),
    ):
        if is_bad.any():
            raise ConfigError(
                f"table.latency={name}: {what} in {int(is_bad.sum())} of {len(given)} rows; leave them out "
                "with table.where, or mend them."
            )
    latency_ms = given * MS_PER[str(table.unit)]
    median = float(np.median(latency_ms))
    if not LEAST_PLAUSIBLE_MS <= median <= MOST_PLAUSIBLE_MS:
        notices.append(
            f"table.unit={table.unit}: the median of {name} would be {median:.3g} ms, which is unusual for a "
            "step of a language model; is that its unit?"
        )
        log.warning(notices[-1])
    return latency_ms


def _groups(table: TableConfig, rows: pd.DataFrame, notices: list[str]) -> tuple[Any, Any]:
    """Return what stands in for requests: the combinations of the group columns, or each row by itself."""
    if not table.group:
        notices.append("table.group: none is named, so every row is taken to be independent of the others.")
        log.warning(notices[-1])
        number = np.arange(len(rows))
        return number, number.astype(str)
    grouped = rows.groupby(list(table.group), sort=True, dropna=False)
    names = rows[list(table.group)].apply(texts).agg(" ".join, axis=1)
    return grouped.ngroup().to_numpy(), names.to_numpy()


def _with_places(rows: pd.DataFrame, table: TableConfig) -> pd.DataFrame:
    """Fill in what a row's place in its request would tell, where the table does not."""
    is_first = rows[IS_PREFILL] != 0 if IS_PREFILL in mapped(table) else pd.Series(False, rows.index)
    place = rows.groupby(REQUEST).cumcount()
    filled: dict[str, Any] = {"token_index": place, "phase": np.where(is_first, PREFILL, DECODE)}
    filled["context_length"] = rows.get("prompt_tokens", place)
    filled["prompt_tokens"] = rows.get("context_length", filled["context_length"])
    filled["completed_at_ns"] = np.int64(0)  # nothing is told of the order
    rows = rows.assign(**{name: values for name, values in filled.items() if name not in rows})
    if IS_PREFILL in mapped(table):
        rows["phase"] = filled["phase"]
    strange = sorted(set(rows["phase"]) - set(PHASES))
    if strange:
        raise ConfigError(
            f"table.path: its column phase holds {strange[0]!r}, and llmlat's of that name holds {PREFILL} "
            f"and {DECODE}; rename it, or tell first tokens by table.columns.is_prefill."
        )
    batch = {
        "padded_context_length": rows["context_length"],
        "batch_context_tokens": rows["context_length"] * rows["batch_size"],
    }
    return rows.assign(**{name: values for name, values in batch.items() if name not in rows})


def _about(
    table: TableConfig, rows: pd.DataFrame, experiment: str, key: str, notices: list[str]
) -> dict[str, Any]:
    def told(name: str) -> str:
        return " and ".join(map(str, rows[name].dropna().unique()[:3])) + (
            f" and {rows[name].nunique() - 3} more" if rows[name].nunique() > 3 else ""
        )

    file = Path(str(table.path)).name
    return {
        "llmlat_version": llmlat.__version__,
        "experiment": experiment,
        "source": "table",
        "model": file if rows["model"].eq("table").all() else told("model"),
        "weights": "not told",
        "stand_in": False,
        "stand_in_for": None,
        "quantization": told("quantization"),
        "engine": told("engine"),
        "prompt_set": file,
        "device": "not told",
        "versions": {},
        "dataset_key": key,
        "notices": notices,
        "measurement": {},
    }
