"""Parquet files of token rows: each of the schema, and each knowing the dataset that it belongs to."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from llmlat.dataset.files import write_table
from llmlat.errors import DatasetError, one_line
from llmlat.records import SCHEMA, TARGET

_KEY_FIELD = b"llmlat.dataset_key"


def write_rows(path: Path, rows: pd.DataFrame, key: str) -> None:
    """Write token rows of the dataset of that key."""
    table = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
    marked = {**(table.schema.metadata or {}), _KEY_FIELD: key.encode()}
    write_table(path, table.replace_schema_metadata(marked))


def read_rows(path: Path, key: str) -> pa.Table:
    """Read token rows of the dataset of that key.

    Raises
    ------
    DatasetError
        Where the file is damaged, or another dataset's.
    """
    remedy = "delete it and run the same command again: only that request is measured again."
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: damaged parquet file ({one_line(error)}); {remedy}") from error
    if (table.schema.metadata or {}).get(_KEY_FIELD, b"").decode() != key:
        raise DatasetError(f"{path}: its rows belong to another dataset than {key}; {remedy}")
    missing = set(SCHEMA.names) - set(table.column_names)
    if missing:
        raise DatasetError(f"{path}: it lacks the columns {', '.join(sorted(missing))}; {remedy}")
    try:
        return table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{path}: not token rows ({one_line(error)}); {remedy}") from error


def check_rows(rows: pd.DataFrame, folder: Path) -> None:
    """Refuse rows that no measurement can have produced.

    Raises
    ------
    DatasetError
        Where a latency cannot be one, or rows are lost or doubled.
    """
    latency = rows[TARGET].to_numpy()
    impossible = ~np.isfinite(latency) | (latency <= 0)
    if impossible.any():
        first = rows.loc[impossible].iloc[0]
        raise DatasetError(
            f"dataset={folder}: {TARGET} is not a positive number in {impossible.sum()} of {len(rows)} rows "
            f"(first: request {first.request_id}, token {first.token_index}); "
            "delete the files of those requests and run again."
        )
    sequences = rows[~rows["is_warmup"]].groupby(["request_id", "sequence_index"])
    counted = sequences["token_index"].agg(["max", "size", "nunique"])
    uneven = counted[(counted["max"] + 1 != counted["size"]) | (counted["nunique"] != counted["size"])]
    if len(uneven):
        raise DatasetError(
            f"dataset={folder}: rows are lost or doubled in {len(uneven)} sequences (first: "
            f"request {uneven.index[0][0]}); delete the files of those requests and run again."
        )
