"""Rows in parquet files, seen through DuckDB: queried where they lie."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from llmlat.errors import ConfigError, DatasetError
from llmlat.records import TARGET

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GROUP, POSITION = "_group", "_position"
VECTORS_A_BATCH = 50  # of 2,048 rows each


@dataclass(frozen=True)
class Source:
    """Rows that lie in parquet files, and what is what in them.

    Attributes
    ----------
    files : sequence of str
        Paths or globs of parquet files with the same columns.
    inputs : mapping of str to str
        What features are made of: each column's SQL expression on the files' columns, such as
        `{"prompt_tokens": "prompt_tokens", "tokens": "batch_size * 2"}`. Whole numbers multiply as whole
        numbers: cast them to DOUBLE where a product may not fit.
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
    inputs: Mapping[str, str]
    latency: str = TARGET
    group: str = "request_id"
    position: str | None = "token_index"
    where: str = "NOT is_warmup"

    def parquet(self) -> str:
        """Return the files as a table in SQL."""
        return f"read_parquet([{', '.join(map(text, self.files))}])"


class Database:
    """DuckDB on files that are open.

    Attributes
    ----------
    n_passes : int
        How often the files were read so far.
    """

    def __init__(self, connection: "DuckDBPyConnection") -> None:
        self.connection = connection
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


@dataclass(frozen=True)
class Part:
    """Some of the rows: a view of `columns`, the latency, and whose the row is and where in it.

    Attributes
    ----------
    database : Database
    view : str
        The view's name.
    columns : tuple of str
        Numbers, and texts among inputs.
    """

    database: Database
    view: str
    columns: tuple[str, ...]

    @property
    def selected(self) -> str:
        """Columns and latency, as SQL."""
        return ", ".join(map(name, [*self.columns, TARGET]))

    def first(self, n_rows: int) -> pd.DataFrame:
        """Return columns and latency of the rows that are found first; hardly anything is read for them."""
        with _as_dataset_error():
            return self.database.connection.execute(
                f"SELECT {self.selected} FROM {self.view} LIMIT {n_rows}"
            ).df()

    def among(self, view: str, sql: str) -> "Part":
        """Return the rows of this part that a query on it lets through."""
        self.database.ask(f"CREATE VIEW {view} AS {sql}")
        return replace(self, view=view)

    def worked(self, view: str, columns: Mapping[str, str]) -> "Part":
        """Return the same rows with columns that are worked from these ones, in SQL."""
        numbers = [
            f"CAST({expression} AS DOUBLE) AS {name(column)}" for column, expression in columns.items()
        ]
        selected = ", ".join([*numbers, TARGET, GROUP, POSITION])
        self.database.ask(f"CREATE OR REPLACE VIEW {view} AS SELECT {selected} FROM {self.view}")
        return Part(self.database, view, tuple(columns))


@contextmanager
def open_rows(source: Source, memory_mb: int, threads: int | None = None) -> Iterator[Part]:
    """Open a source, and yield the rows that count.

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
            database = Database(connection)
            inputs = _inputs(database, source)
            latency = f"CAST({source.latency} AS DOUBLE) AS {TARGET}"
            places = [f"{source.group} AS {GROUP}", f"{source.position or 'NULL'} AS {POSITION}"]
            selected = ", ".join([*inputs, latency, *places])
            database.ask(
                f"CREATE VIEW counted AS SELECT {selected} FROM {source.parquet()} WHERE {source.where}"
            )
            yield Part(database, "counted", tuple(source.inputs))


def _inputs(database: Database, source: Source) -> list[str]:
    """Return the inputs as SQL, texts as they are and all else as floating point.

    Refuses files that cannot be read, and the first expression that they do not bear out.

    Raises
    ------
    ConfigError, DatasetError
    """
    files = source.parquet()
    columns = [column for column, *_ in database.ask(f"DESCRIBE FROM {files}")]
    queries = {what: f"SELECT {expression} FROM {files}" for what, expression in source.inputs.items()}
    queries["the latency"] = f"SELECT CAST({source.latency} AS DOUBLE) FROM {files}"
    queries["the group"] = f"SELECT {source.group} FROM {files}"
    queries["the position"] = f"SELECT {source.position or 'NULL'} FROM {files}"
    queries["the condition"] = f"SELECT 1 FROM {files} WHERE {source.where}"
    types = {}
    for what, query in queries.items():
        try:
            types[what] = database.ask(f"DESCRIBE {query}")[0][1]
        except DatasetError as error:
            raise ConfigError(
                f"large data: {what} cannot be made of these files ({error}); they have {', '.join(columns)}."
            ) from error
    return [
        f"{sql if types[what] == 'VARCHAR' else f'CAST({sql} AS DOUBLE)'} AS {name(what)}"
        for what, sql in source.inputs.items()
    ]


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
