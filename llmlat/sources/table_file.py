"""A table's file: CSV or parquet, read whole or looked at."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow.dataset

from llmlat.config import TableConfig
from llmlat.dataset import KEY_LENGTH
from llmlat.errors import DatasetError, one_line

N_PEEKED = 1000


def table_files(table: TableConfig) -> list[Path]:
    """Return a table's files: itself, or the parquet files of a folder."""
    path = Path(str(table.path))
    return sorted(path.rglob("*.parquet")) if path.is_dir() else [path]


def is_parquet(table: TableConfig) -> bool:
    """Whether a table is a parquet file, or a folder of them."""
    path = Path(str(table.path))
    return path.is_dir() or path.suffix == ".parquet"


def peek(table: TableConfig) -> pd.DataFrame:
    """Return a table's first rows, which tell its columns and their types.

    Raises
    ------
    DatasetError
        Where the file cannot be read.
    """
    return read_table(table, N_PEEKED)


def read_table(table: TableConfig, n_rows: int | None = None) -> pd.DataFrame:
    """Return a table's rows, or the first so many of them, as they are.

    Raises
    ------
    DatasetError
        Where the file is missing, cannot be read, or holds no rows.
    """
    path = Path(str(table.path))
    try:
        if not is_parquet(table):
            rows = pd.read_csv(path, nrows=n_rows)
        elif n_rows is None:
            rows = pd.read_parquet(path)
        else:
            rows = pyarrow.dataset.dataset(path, format="parquet").head(n_rows).to_pandas()
    except FileNotFoundError as error:
        raise DatasetError(
            f"table.path={path}: there is no such file. Relative paths start at {Path.cwd()}."
        ) from error
    except Exception as error:
        raise DatasetError(
            f"table.path={path}: cannot be read ({one_line(error)}); it takes CSV with a header, or parquet."
        ) from error
    if rows.empty:
        raise DatasetError(f"table.path={path}: it holds no rows.")
    return rows.rename(columns=str)


def key_of_table(table: TableConfig) -> str:
    """Return what stands in for a dataset's key: a hash of the mapping and of the files."""
    files = table_files(table)
    digest = hashlib.sha256(json.dumps(asdict(table), sort_keys=True, default=str).encode())
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:KEY_LENGTH]
