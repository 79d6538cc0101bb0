"""Rows that stay where they are: queried through DuckDB, part by part."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from llmlat.errors import DatasetError
from llmlat.formulas.sql import name
from llmlat.records import TARGET

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GROUP, POSITION = "_group", "_position"
VECTORS_A_BATCH = 50  # of 2,048 rows each


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
def _as_dataset_error() -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        # The first line says what is wrong; the others quote the query.
        raise DatasetError(str(error).splitlines()[0]) from error
