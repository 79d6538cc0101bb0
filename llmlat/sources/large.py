"""Rows too many to be loaded: where they lie, to be fitted there, and some whole requests to look at."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from llmlat.config import LargeConfig, SplitConfig, SplitName, TableConfig, TimeUnit
from llmlat.dataset import Dataset
from llmlat.errors import ConfigError
from llmlat.formulas.sql import NAN, formula_sql, name, number, text, text_sql
from llmlat.provenance import facts
from llmlat.records import BEFORE, COLUMNS, DECODE, KNOWN, PREFILL, PROMPT, REQUEST, TARGET
from llmlat.sources import Rows
from llmlat.sources.datasets import about_datasets
from llmlat.sources.parquet.groups import sample
from llmlat.sources.parquet.source import Source, open_rows
from llmlat.sources.table import IS_PREFILL, MS_PER, PLAIN, mapped, parse_as, rows_of_frame
from llmlat.sources.table_file import peek, scanned, table_files
from llmlat.sources.table_types import settled
from llmlat.steps import previous_latency


def n_rows_of(files: Sequence[Path]) -> int:
    """Return how many rows parquet files say they hold; none of a damaged one, which its reader will name."""
    n_rows = 0
    for path in files:
        with suppress(OSError, pa.ArrowInvalid):
            n_rows += pq.ParquetFile(path).metadata.num_rows
    return n_rows


def large_dataset(
    dataset: Dataset,
    experiment: str,
    split: SplitConfig,
    large: LargeConfig,
    *,
    excludes_flagged: bool = False,
) -> Rows:
    """Return some whole requests of a dataset, beside where all of its rows lie.

    Doubtful rows do not count where they are excluded, in the exact fit either.

    Raises
    ------
    ConfigError
        Where DuckDB is not installed.
    DatasetError
        Where a file cannot be read.
    """
    files = dataset.row_files()
    constant = {
        fact: text(value) if isinstance(value, str) else number(value) if value == value else NAN
        for fact, value in facts(dataset.provenance).items()
    }
    # What is known of the step before takes the rows in their order, which they do not lie in.
    columns = {column.name: name(column.name) for column in COLUMNS if column.name != TARGET}
    source = Source(
        files=[str(path) for path in files],
        inputs={**columns, **constant},
        group=PROMPT if split.name is SplitName.by_prompt else REQUEST,
        where="NOT is_warmup AND flags = ''" if excludes_flagged else "NOT is_warmup",
        sequence="sequence_index",
        chunk="tokens_in_chunk",
        step="session_id, request_id, completed_at_ns",
    )
    frame = _some(source, large.sample_rows, split.seed)
    # All numbers come back as floating point; those that cannot be missing have the types of a dataset's.
    whole = [column for column in COLUMNS if not column.nullable and not column.is_text]
    steps = frame.astype({column.name: column.dtype.to_pandas_dtype() for column in whole})
    steps = steps.assign(**{BEFORE[0].name: previous_latency(steps)})
    described = {"key": dataset.key, "path": str(dataset.rows_dir.resolve()), "n_rows": n_rows_of(files)}
    about = about_datasets([dataset], experiment)
    return Rows(
        steps, steps, about, {**described, "provenance": dataset.provenance}, dataset.folder, source=source
    )


def large_table(
    table: TableConfig, experiment: str, split: SplitConfig, large: LargeConfig, wanted: Collection[str]
) -> Rows:
    """Return some whole groups of a table in parquet, beside where all of its rows lie.

    Only columns that something asks for are read: `wanted` ones, those that the settings name, and those that
    have a name of ours.

    Raises
    ------
    ConfigError
        Where DuckDB is not installed, or the table names no groups.
    DatasetError
        Where a file cannot be read.
    """
    if not table.group:
        raise ConfigError("table.group: none is named, and rows too many to load are drawn group by group.")
    head, files = peek(table), table_files(table)
    schema = scanned(Path(str(table.path)), files).schema
    took = schema.field(str(table.latency)).type
    if pa.types.is_duration(took):
        table = replace(table, unit=TimeUnit(took.unit))
    texts = [str(column) for column in head if pd.api.types.is_string_dtype(head[column])]
    asked = {*wanted, *KNOWN, str(table.latency), *table.group}
    asked |= {part for text in mapped(table).values() for part in [text, *_names_in(text, head)]}
    own = {column: _column_sql(column, schema.field(column).type) for column in head if column in asked}
    own[str(table.latency)] = name(str(table.latency))
    ours = {ours: _sql(theirs, own, texts) for ours, theirs in mapped(table).items()}
    worked = {name: sql for name, sql in _worked({**own, **ours}).items() if name in wanted}
    kept = "TRUE" if table.where is None else f"{_sql(table.where, own, texts)} <> 0"
    source = Source(
        files=[str(path) for path in files],
        inputs={**worked, **own, **ours},
        latency=f"{name(str(table.latency))} * {number(MS_PER[str(table.unit)])}",
        group=f"row({', '.join(_key_sql(column, schema.field(column).type) for column in table.group)})",
        position=None,
        where=kept,
    )
    frame = _some(source, large.sample_rows, split.seed)
    rows = rows_of_frame(replace(table, where=None), settled(frame[list(own)]), experiment)
    return replace(rows, described={**rows.described, "n_rows": n_rows_of(files)}, source=source)


def _sql(formula: str, own: Mapping[str, str], texts: Sequence[str]) -> str:
    return own[formula] if formula in own else formula_sql(formula, {}, texts)


def _worked(told: Mapping[str, str]) -> dict[str, str]:
    """Return what `rows_of_frame` fills in where a table does not tell; not a row's place in its group."""
    plain = {n: text(v) if isinstance(v, str) else number(v) if v == v else NAN for n, v in PLAIN.items()}
    worked = {**plain, **told}
    if length := told.get("context_length") or told.get("prompt_tokens"):
        worked = {"context_length": length, "prompt_tokens": length, **worked}
        batch = f"({worked['context_length']}) * ({worked['batch_size']})"
        worked = {
            "padded_context_length": worked["context_length"],
            "batch_context_tokens": batch,
            **worked,
        }
    is_first = f"({told[IS_PREFILL]}) <> 0" if IS_PREFILL in told else "FALSE"
    return {"phase": f"CASE WHEN {is_first} THEN {text(PREFILL)} ELSE {text(DECODE)} END", **worked}


def _names_in(text: str, head: pd.DataFrame) -> Sequence[str]:
    return () if text in head else parse_as("table.columns", text).names


def _column_sql(column: str, kind: pa.DataType) -> str:
    """Return a column as `settled` has it: moments in nanoseconds, durations in milliseconds."""
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return f"epoch_ns({name(column)}::TIMESTAMP)"
    if pa.types.is_duration(kind):
        return f"{name(column)} * {number(MS_PER[kind.unit])}"
    return name(column)


def _key_sql(column: str, kind: pa.DataType) -> str:
    """Return a column as groups are told apart by it: a missing number or text is a value like others."""
    if pa.types.is_floating(kind):
        return f"CASE WHEN NOT isnan({name(column)}) THEN {name(column)} END"
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    return text_sql(column) if is_text else name(column)


def _some(source: Source, n_rows: int, seed: int) -> pd.DataFrame:
    with open_rows(source) as counted:
        return sample(counted, n_rows, seed).frame
