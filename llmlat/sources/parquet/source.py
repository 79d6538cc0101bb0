"""Rows in parquet files: what is what in them, and opening them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from llmlat.errors import ConfigError, DatasetError
from llmlat.formulas.sql import name, text
from llmlat.records import TARGET
from llmlat.sources.parquet.database import GROUP, POSITION, Database, Part

MEMORY_MB = 128
"""What DuckDB may hold, unless told; Python and its libraries take some 300 MB besides."""

NAMES = {"VARCHAR", *(f"{sign}{kind}" for sign in ("", "U") for kind in ("BIGINT", "INTEGER", "SMALLINT"))}
"""Types of groups that pandas and DuckDB sort alike."""

_SEQUENCE = "_sequence"


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
        numbers: cast them to DOUBLE where a product may not fit. An input that no feature needs comes along
        in what is predicted.
    latency : str
        SQL expression of the latency in ms.
    group : str
        SQL expression of what rows of one request share; where it is neither whole numbers nor texts, groups
        are numbered in its order, a missing value being one of its own.
    position : str or None
        SQL expression of a row's place within its request; a random split tells rows apart by it. Its place
        within its file unless given.
    where : str
        SQL condition of the rows that count.
    sequence : str or None
        SQL expression of which sequence of its request's batch a row belongs to. Where given, one row a step
        counts, since the tokens of a step share its latency: the row of the longest sequence.
    length : str
        SQL expression of how long that sequence is.
    chunk, step : str or None
        SQL expressions of how many tokens of its sequence arrived with a row, and of what they share, such as
        `tokens_in_chunk` and `request_id, completed_at_ns`. Where given, the first of them counts.
    """

    files: Sequence[str]
    inputs: Mapping[str, str]
    latency: str = TARGET
    group: str = "request_id"
    position: str | None = "token_index"
    where: str = "NOT is_warmup"
    sequence: str | None = None
    length: str = "context_length"
    chunk: str | None = None
    step: str | None = None

    @property
    def table(self) -> str:
        """The files as a table in SQL, with a row's place in its file where that is all there is to go by."""
        numbered = "" if self.position else ", file_row_number = true"
        return f"read_parquet([{', '.join(map(text, self.files))}]{numbered})"


@contextmanager
def open_rows(source: Source, memory_mb: int = MEMORY_MB, threads: int | None = None) -> Iterator[Part]:
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
            selected = ", ".join([*inputs, latency, GROUP, POSITION])
            database.ask(f"CREATE VIEW counted AS SELECT {selected} FROM {_placed(database, source)}")
            yield Part(database, "counted", tuple(source.inputs))


def _placed(database: Database, source: Source) -> str:
    """Return the rows that count as a table in SQL, with the places that they have in their requests."""
    place = source.position or "file_row_number"
    places = {GROUP: source.group, POSITION: place, _SEQUENCE: source.sequence or "0"}
    named = ", ".join(f"{expression} AS {name}" for name, expression in places.items())
    rows = f"(SELECT *, {named} FROM {source.table} WHERE {source.where})"
    if database.ask(f"DESCRIBE SELECT {GROUP} FROM {rows}")[0][1] not in NAMES:
        rows = _numbered(database, rows)
    if source.chunk and (database.ask(f"SELECT max({source.chunk}) FROM {rows}")[0][0] or 0) > 1:
        within = f"PARTITION BY {source.step}, {_SEQUENCE} ORDER BY {POSITION}"
        rows = f"(SELECT * FROM {rows} QUALIFY row_number() OVER ({within}) = 1)"
    if not database.ask(f"SELECT max({_SEQUENCE}) FROM {rows}")[0][0]:
        return rows
    # As `llmlat.steps.one_row_a_step` has it, and without sorting rows: which sequence is the longest changes
    # only where one ends, so each leads from where the last of the longer ones has ended.
    ends = f"max({POSITION}) AS ended, min({source.length}) AS length"
    sequences = f"SELECT {GROUP}, {_SEQUENCE}, {ends} FROM {rows} GROUP BY {GROUP}, {_SEQUENCE}"
    longer = (
        f"PARTITION BY {GROUP} ORDER BY length DESC, {_SEQUENCE} ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW"
    )
    leads = f"coalesce(max(ended) OVER ({longer}), -1) AS leads_after"
    database.scan(f"CREATE TABLE sequences AS SELECT {GROUP}, {_SEQUENCE}, {leads} FROM ({sequences})")
    return f"{rows} JOIN sequences USING ({GROUP}, {_SEQUENCE}) WHERE {POSITION} > leads_after"


def _numbered(database: Database, rows: str) -> str:
    """Return rows whose groups are numbers, in the groups' order."""
    groups = f"(SELECT DISTINCT {GROUP} AS _key FROM {rows})"
    number = "row_number() OVER (ORDER BY _key) - 1 AS _number"
    database.scan(f"CREATE TABLE numbered AS SELECT _key, {number} FROM {groups}")
    joined = f"{rows} AS r JOIN numbered ON r.{GROUP} IS NOT DISTINCT FROM _key"
    return f"(SELECT r.* REPLACE (_number AS {GROUP}) FROM {joined})"


def _inputs(database: Database, source: Source) -> list[str]:
    """Return the inputs as SQL, texts as they are and all else as floating point.

    Refuses files that cannot be read, and the first expression that they do not bear out.

    Raises
    ------
    ConfigError, DatasetError
    """
    files = source.table
    columns = [column for column, *_ in database.ask(f"DESCRIBE FROM {files}")]
    queries = {what: f"SELECT {expression} FROM {files}" for what, expression in source.inputs.items()}
    queries["the latency"] = f"SELECT CAST({source.latency} AS DOUBLE) FROM {files}"
    queries["the group"] = f"SELECT {source.group} FROM {files}"
    queries["the position"] = f"SELECT {source.position or 'NULL'} FROM {files}"
    queries["the sequence"] = f"SELECT {source.sequence or 'NULL'} FROM {files}"
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
