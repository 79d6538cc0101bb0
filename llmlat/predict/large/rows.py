"""Rows in parquet files, seen through DuckDB: queried where they lie."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from llmlat.errors import ConfigError, DatasetError
from llmlat.records import TARGET

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

COUNTED = "counted"
"""The view of every row that the source lets through; `train` and `test` are parts of it."""

GROUP, POSITION = "_group", "_position"
VECTORS_A_BATCH = 50  # of 2,048 rows each


@dataclass(frozen=True)
class Source:
    """Rows that lie in parquet files, and what is what in them.

    Attributes
    ----------
    files : sequence of str
        Paths or globs of parquet files with the same columns.
    features : mapping of str to str
        Each feature's SQL expression on the files' columns, such as `{"kv": "batch_size * 2.5"}`. Whole
        numbers multiply as whole numbers: cast them to DOUBLE where a product may not fit.
    latency : str
        SQL expression of the latency in ms.
    group : str
        SQL expression of what rows of one request share.
    position : str or None
        SQL expression of a row's place within its request; a random split tells rows apart by it.
    where : str
        SQL condition of the rows that count.
    """

    files: Sequence[str]
    features: Mapping[str, str]
    latency: str = TARGET
    group: str = "request_id"
    position: str | None = "token_index"
    where: str = "NOT is_warmup"

    def parquet(self) -> str:
        """Return the files as a table in SQL."""
        return f"read_parquet([{', '.join(map(text, self.files))}])"


class Rows:
    """A source that is open: the view `counted`, and the parts that are made of it.

    Attributes
    ----------
    features : tuple of str
        Columns of the view, beside the latency.
    columns : str
        Features and latency, as SQL.
    n_passes : int
        How often the files were read so far.
    """

    def __init__(self, connection: "DuckDBPyConnection", features: Sequence[str]) -> None:
        self.connection = connection
        self.features = tuple(features)
        self.columns = ", ".join(map(name, [*features, TARGET]))
        self.n_passes = 0

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the answer to a query, all of it.

        Raises
        ------
        DatasetError
            Where a file cannot be read, or a value is not what the query takes it for.
        """
        with _as_dataset_error():
            return self.connection.execute(sql).fetchall()

    def scan(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the answer to a query that reads the files once."""
        self.n_passes += 1
        return self.ask(sql)

    def frame(self, sql: str) -> pd.DataFrame:
        """Return the answer to a query that reads the files once, as a frame."""
        self.n_passes += 1
        with _as_dataset_error():
            return self.connection.execute(sql).df()

    def first(self, relation: str, n_rows: int) -> pd.DataFrame:
        """Return features and latency of the rows that are found first; hardly anything is read for them."""
        with _as_dataset_error():
            return self.connection.execute(f"SELECT {self.columns} FROM {relation} LIMIT {n_rows}").df()

    def batches(self, sql: str) -> Iterator[pd.DataFrame]:
        """Yield the answer to a query that reads the files once, some 100,000 rows at a time."""
        self.n_passes += 1
        with _as_dataset_error():
            # A cursor of its own, so that others may ask in between.
            answer = self.connection.cursor().execute(sql)
            while len(batch := answer.fetch_df_chunk(VECTORS_A_BATCH)):
                yield batch

    def keep(self, name: str, table: pd.DataFrame) -> None:
        """Make a table of a frame, for queries to join."""
        self.connection.register("handed_over", table)
        self.ask(f"CREATE OR REPLACE TABLE {name} AS FROM handed_over")
        self.connection.unregister("handed_over")

    def append(self, name: str, table: pd.DataFrame) -> None:
        """Add a frame to a table."""
        with _as_dataset_error():
            self.connection.append(name, table)


@contextmanager
def open_rows(source: Source, memory_mb: int, threads: int | None = None) -> Iterator[Rows]:
    """Open a source.

    Parameters
    ----------
    source : Source
    memory_mb : int
        What DuckDB may hold in memory; what it needs beyond goes to a temporary folder.
    threads : int, optional
        As many as there are cores, unless given.

    Raises
    ------
    ConfigError
        Where DuckDB is not installed, or an expression cannot be one.
    DatasetError
        Where a file cannot be read.
    """
    duckdb = _import_duckdb()
    with tempfile.TemporaryDirectory(prefix="llmlat-large-") as spill:
        settings = {
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": spill,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,  # nothing is fetched over the network in mid-query
            **({"threads": threads} if threads else {}),
        }
        with duckdb.connect(config=settings) as connection:
            rows = Rows(connection, tuple(source.features))
            _check(rows, source)
            rows.ask(f"CREATE VIEW {COUNTED} AS {_selection(source)}")
            yield rows


def _selection(source: Source) -> str:
    named = {**source.features, TARGET: source.latency}
    numbers = [f"CAST({expression} AS DOUBLE) AS {name(column)}" for column, expression in named.items()]
    places = [f"{source.group} AS {GROUP}", f"{source.position or 'NULL'} AS {POSITION}"]
    return f"SELECT {', '.join(numbers + places)} FROM {source.parquet()} WHERE {source.where}"


def _check(rows: Rows, source: Source) -> None:
    """Refuse files that cannot be read, and the first expression that they do not bear out.

    Raises
    ------
    ConfigError, DatasetError
    """
    columns = [column for column, *_ in rows.ask(f"DESCRIBE FROM {source.parquet()}")]
    numbers = {**source.features, "the latency": source.latency}
    selected = {what: f"CAST({expression} AS DOUBLE)" for what, expression in numbers.items()}
    selected |= {"the group": source.group, "the position": source.position or "NULL"}
    queries = {what: f"SELECT {column} FROM {source.parquet()}" for what, column in selected.items()}
    queries["the condition"] = f"SELECT 1 FROM {source.parquet()} WHERE {source.where}"
    for what, query in queries.items():
        try:
            rows.ask(f"DESCRIBE {query}")
        except DatasetError as error:
            raise ConfigError(
                f"large data: {what} cannot be made of these files ({error}); they have {', '.join(columns)}."
            ) from error


def _import_duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError(
            "large data: reading parquet files without loading them takes DuckDB; "
            "pip install 'llmlat[large]'."
        ) from error
    return duckdb


@contextmanager
def _as_dataset_error() -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        # The first line says what is wrong; the others quote the query.
        raise DatasetError(str(error).splitlines()[0]) from error


def name(column: str) -> str:
    """Return a column's name as SQL."""
    return '"' + column.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return a text as SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def number(value: float) -> str:
    """Return a number as SQL: with an exponent, since without one it would be a decimal of few digits."""
    return f"{value:.17e}"
