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
from llmlat.sources.csv_file import check_names, read_csv
from llmlat.sources.table_types import settled

N_PEEKED = 1000


def table_files(table: TableConfig) -> list[Path]:
    """Return a table's files: itself, or those of a folder, parquet where it has any, otherwise CSV."""
    path = Path(str(table.path))
    if not path.is_dir():
        return [path]
    for pattern in ("*.parquet", "*.csv", "*.tsv"):
        if files := sorted(file for file in path.rglob(pattern) if not file.name.startswith(("_", "."))):
            return files
    raise DatasetError(f"table.path={path}: the folder holds neither parquet nor CSV files.")


def is_parquet(table: TableConfig) -> bool:
    """Whether a table is a parquet file, or a folder of them."""
    return table_files(table)[0].suffix in {".parquet", ".pq"}


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
        rows = _read(path, table_files(table), is_parquet(table), n_rows)
    except DatasetError:
        raise
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
    return settled(rows.rename(columns=str))


def _read(path: Path, files: list[Path], is_parquet: bool, n_rows: int | None) -> pd.DataFrame:
    if not is_parquet:
        return pd.concat([read_csv(file, n_rows) for file in files], ignore_index=True)[:n_rows]
    # Folders may say a column in their names, as in model=llama/tp=2/part-0.parquet.
    rows = pyarrow.dataset.dataset(
        [str(file) for file in files],
        format="parquet",
        partitioning="hive",
        partition_base_dir=str(path) if path.is_dir() else None,
    )
    check_names(rows.schema.names)
    read: pd.DataFrame = (rows.to_table() if n_rows is None else rows.head(n_rows)).to_pandas()
    return read


def key_of_table(table: TableConfig) -> str:
    """Return what stands in for a dataset's key: a hash of the mapping and of the files."""
    files = table_files(table)
    digest = hashlib.sha256(json.dumps(asdict(table), sort_keys=True, default=str).encode())
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:KEY_LENGTH]
