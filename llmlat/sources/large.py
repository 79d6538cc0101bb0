"""Rows too many to be loaded: where they lie, to be fitted there, and some whole requests to look at."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from llmlat.config import LargeConfig, SplitConfig, SplitName, TableConfig
from llmlat.dataset import Dataset
from llmlat.errors import ConfigError
from llmlat.formulas.formula import parse
from llmlat.formulas.sql import NAN, formula_sql, name, number, text
from llmlat.provenance import facts
from llmlat.records import BEFORE, COLUMNS, PROMPT, REQUEST, TARGET
from llmlat.sources import Rows
from llmlat.sources.datasets import about_datasets
from llmlat.sources.parquet.groups import sample
from llmlat.sources.parquet.source import Source, open_rows
from llmlat.sources.table import MS_PER, mapped, rows_of_frame
from llmlat.sources.table_file import peek, table_files
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


def large_table(table: TableConfig, experiment: str, split: SplitConfig, large: LargeConfig) -> Rows:
    """Return some whole groups of a table in parquet, beside where all of its rows lie.

    Raises
    ------
    ConfigError
        Where DuckDB is not installed, or the table names no groups.
    DatasetError
        Where a file cannot be read.
    """
    if not table.group:
        raise ConfigError("table.group: none is named, and rows too many to load are drawn group by group.")
    head = peek(table)
    texts = [str(column) for column in head if not pd.api.types.is_numeric_dtype(head[column])]
    own = {str(column): name(str(column)) for column in head}
    ours = {
        ours: name(theirs) if theirs in own else formula_sql(theirs, {}, texts)
        for ours, theirs in mapped(table).items()
    }
    files = table_files(table)
    kept = "TRUE" if table.where is None else f"{_sql(table.where, own, texts)} <> 0"
    source = Source(
        files=[str(path) for path in files],
        inputs={**own, **ours},
        latency=f"{name(str(table.latency))} * {number(MS_PER[str(table.unit)])}",
        group=name(table.group[0])
        if len(table.group) == 1
        else f"concat_ws(' ', {', '.join(map(name, table.group))})",
        position=None,
        where=kept,
    )
    frame = _some(source, large.sample_rows, split.seed)
    rows = rows_of_frame(replace(table, where=None), frame[list(own)], experiment)
    return replace(rows, described={**rows.described, "n_rows": n_rows_of(files)}, source=source)


def _sql(formula: str, own: Mapping[str, str], texts: Sequence[str]) -> str:
    if formula in own:
        return own[formula]
    parse(formula)
    return formula_sql(formula, {}, texts)


def _some(source: Source, n_rows: int, seed: int) -> pd.DataFrame:
    with open_rows(source) as counted:
        return sample(counted, n_rows, seed).frame
