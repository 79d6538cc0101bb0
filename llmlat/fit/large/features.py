"""What a table of features learns from rows that are not loaded, as its `fit` learns it from a frame."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from sklearn.base import clone

from llmlat.errors import ConfigError
from llmlat.fit.features.table import FeatureError, check_texts
from llmlat.fit.large.score import median
from llmlat.formulas.sql import NAN, formula_sql, name, number, number_sql, text, text_sql
from llmlat.sources.parquet.database import Part


class Range(NamedTuple):
    """Where the numbers of a column lie: how many rows have one, the smallest and the largest."""

    n_known: int
    low: float | None
    high: float | None

    @property
    def is_constant(self) -> bool:
        """Whether it has one value, or none."""
        return self.low == self.high


def learn_features(part: Part, table: Any) -> tuple[Any, dict[str, str]]:
    """Return a fitted copy of a table of features, and each of its columns as SQL.

    Parameters
    ----------
    part : Part
        Of inputs.
    table : FeatureTable
        Unfitted; `llmlat.fit.features.table` has the rules.

    Raises
    ------
    ConfigError
        Where a feature is infinite in some rows, or none can explain anything.
    """
    fitted, texts = clone(table), texts_of(part)
    worked = _worked(table, texts)
    n, ranges = _ranges(part, worked)
    fitted.categories_ = {column: values_of(part, column) for column in table.columns if column not in worked}
    for column, values in fitted.categories_.items():
        try:
            check_texts(column, len(values), n)
        except FeatureError as error:
            raise ConfigError(f"features.columns: {error}.") from error
    fitted.medians_ = {column: _median(part, sql, ranges[column]) for column, sql in worked.items()}
    constant = {c: _constant_text(values, n) for c, values in fitted.categories_.items() if len(values) == 1}
    constant |= {c: _constant_number(found, n) for c, found in ranges.items() if found.is_constant}
    fitted.left_out_ = {column: constant[column] for column in table.columns if column in constant}
    columns = {
        column: {column: f"coalesce(nullif({worked[column]}, {NAN}), {number(fitted.medians_[column])})"}
        if column in worked
        else _dummies(column, fitted.categories_[column])
        for column in table.columns
    }
    fitted.feature_names_out_ = [out for made in columns.values() for out in made]
    fitted.telling_ = [column not in constant for column, made in columns.items() for _ in made]
    fitted.n_features_in_ = len(table.inputs())
    if not any(fitted.telling_):
        reasons = "; ".join(f"{column} {why}" for column, why in fitted.left_out_.items())
        raise ConfigError(f"features.columns: no feature is left of {n:,} rows: {reasons}.")
    return fitted, {out: sql for made in columns.values() for out, sql in made.items()}


def extremes(part: Part) -> pd.DataFrame:
    """Return a few made-up rows that hold the smallest and largest of each number, and each of the texts."""
    texts = texts_of(part)
    _, ranges = _ranges(part, {column: name(column) for column in part.columns if column not in texts})
    seen: dict[str, list[Any]] = {
        column: [found.low, found.high] if found.n_known else [math.nan] for column, found in ranges.items()
    }
    seen |= {column: values_of(part, column) for column in texts}
    n_rows = max(map(len, seen.values()), default=0)
    return pd.DataFrame({c: [seen[c][k % len(seen[c])] for k in range(n_rows)] for c in part.columns})


def texts_of(part: Part) -> set[str]:
    """Return the columns that hold texts."""
    types = {column: kind for column, kind, *_ in part.database.ask(f"DESCRIBE {part.view}")}
    return {column for column in part.columns if types[column] == "VARCHAR"}


def values_of(part: Part, column: str) -> list[str]:
    """Return the values of a column of texts, in order."""
    return sorted(v for (v,) in part.database.scan(f"SELECT DISTINCT {text_sql(column)} FROM {part.view}"))


def _worked(table: Any, texts: set[str]) -> dict[str, str]:
    """Return the columns that are numbers as SQL, NaN where one is missing."""
    derived: Mapping[str, str] = table.derived or {}
    return {
        column: formula_sql(derived[column], derived, texts) if column in derived else number_sql(column)
        for column in table.columns
        if column in derived or column not in texts
    }


def _ranges(part: Part, numbers: Mapping[str, str]) -> tuple[int, dict[str, Range]]:
    """Return the number of rows, and where each column lies.

    Raises
    ------
    ConfigError
        Where one is infinite.
    """
    told = "".join(f", count({c}), min({c}), max({c})" for c in map(name, numbers))
    named = "".join(f", nullif({sql}, {NAN}) AS {name(column)}" for column, sql in numbers.items())
    n, *found = part.database.scan(f"SELECT count(*){told} FROM (SELECT 1{named} FROM {part.view})")[0]
    ranges = {column: Range(*found[3 * k : 3 * k + 3]) for k, column in enumerate(numbers)}
    for column, (_, low, high) in ranges.items():
        if math.inf in (high, -(low or 0.0)):
            raise ConfigError(f"features.columns: {column} is infinite in some of {n:,} rows.")
    return n, ranges


def _median(part: Part, sql: str, found: Range) -> float:
    if found.low is None or found.high is None or found.low == found.high:
        return found.low or 0.0
    known = f"(SELECT v FROM (SELECT {sql} AS v FROM {part.view}) WHERE NOT isnan(v))"
    return median(part.database.scan, known, "v", (found.n_known, found.low, found.high))


def _constant_number(found: Range, n: int) -> str:
    if found.low is None:
        return f"is missing in all {n} rows"
    return f"is {found.low:g} in all {found.n_known:,} rows that have it"


def _constant_text(values: list[str], n: int) -> str:
    return f"is {values[0]} in all {n} rows"


def _dummies(column: str, values: list[str]) -> dict[str, str]:
    return {f"{column}={v}": f"CAST({text_sql(column)} = {text(v)} AS DOUBLE)" for v in values[1:]}
