"""What a table of features learns from rows that are not loaded, as its `fit` learns it from a frame."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.base import clone

from llmlat.errors import ConfigError
from llmlat.predict.large.formulas import formula_sql, number_sql, text_sql
from llmlat.predict.large.rows import Part, name, number, text
from llmlat.predict.large.score import median


def learn_features(part: Part, table: Any) -> tuple[Any, dict[str, str]]:
    """Return a fitted copy of a table of features, and each of its columns as SQL.

    Parameters
    ----------
    part : Part
        Of inputs.
    table : FeatureTable
        Unfitted; `llmlat.predict.features.table` has the rules.

    Raises
    ------
    ConfigError
        Where a feature is infinite in some rows, or none can explain anything.
    """
    fitted = clone(table)
    texts = texts_of(part)
    derived: Mapping[str, str] = table.derived or {}
    worked = {
        column: formula_sql(derived[column], derived, texts) if column in derived else number_sql(column)
        for column in table.columns
        if column in derived or column not in texts
    }
    fitted.categories_ = {c: values_of(part, c) for c in table.columns if c not in worked}
    n, found = _numbers(part, worked)
    fitted.left_out_ = {
        c: why for c in table.columns if (why := _why_left_out(c, fitted.categories_, found, n))
    }
    fitted.medians_ = {c: _middle(part, sql, *found[c][1:]) for c, sql in worked.items()}
    columns = {
        c: _dummies(c, fitted.categories_[c])
        if c in fitted.categories_
        else {c: _filled(worked[c], fitted.medians_[c])}
        for c in table.columns
    }
    fitted.feature_names_out_ = [out for made in columns.values() for out in made]
    fitted.telling_ = [c not in fitted.left_out_ for c, made in columns.items() for _ in made]
    fitted.n_features_in_ = len(table.inputs())
    if not any(fitted.telling_):
        reasons = "; ".join(f"{c} {why}" for c, why in fitted.left_out_.items())
        raise ConfigError(f"features.columns: no feature is left of {n:,} rows: {reasons}.")
    return fitted, {out: sql for made in columns.values() for out, sql in made.items()}


def extremes(part: Part) -> pd.DataFrame:
    """Return a few made-up rows that hold the smallest and largest of each number, and each of the texts."""
    texts = texts_of(part)
    numbers = [column for column in part.columns if column not in texts]
    _, found = _numbers(part, {column: number_sql(column) for column in numbers})
    ends = {column: [low, high] if n_known else [math.nan] for column, (n_known, low, high) in found.items()}
    seen = ends | {column: values_of(part, column) for column in texts}
    n_rows = max(map(len, seen.values()), default=0)
    return pd.DataFrame({c: [seen[c][k % len(seen[c])] for k in range(n_rows)] for c in part.columns})


def texts_of(part: Part) -> set[str]:
    """Return the columns that hold texts."""
    types = {column: kind for column, kind, *_ in part.database.ask(f"DESCRIBE {part.view}")}
    return {column for column in part.columns if types[column] == "VARCHAR"}


def values_of(part: Part, column: str) -> list[str]:
    """Return the values of a column of texts, in order."""
    return sorted(v for (v,) in part.database.scan(f"SELECT DISTINCT {text_sql(column)} FROM {part.view}"))


def _numbers(part: Part, worked: Mapping[str, str]) -> tuple[int, dict[str, tuple[int, float, float]]]:
    """Return the number of rows; and of each column how many rows have it, its smallest and its largest.

    Raises
    ------
    ConfigError
        Where one is infinite.
    """
    told = ", ".join(
        f"count(*) FILTER (NOT isnan({v})), count(*) FILTER (isinf({v})), "
        f"coalesce(min({v}) FILTER (NOT isnan({v})), 0), coalesce(max({v}) FILTER (NOT isnan({v})), 0)"
        for v in map(name, worked)
    )
    inner = ", ".join(f"{sql} AS {name(column)}" for column, sql in worked.items())
    if not worked:
        return part.database.scan(f"SELECT count(*) FROM {part.view}")[0][0], {}
    n, *found = part.database.scan(f"SELECT count(*), {told} FROM (SELECT {inner} FROM {part.view})")[0]
    facts = {column: found[4 * k : 4 * k + 4] for k, column in enumerate(worked)}
    for column, (_, n_infinite, *_) in facts.items():
        if n_infinite:
            raise ConfigError(f"features.columns: {column} is infinite in {n_infinite:,} of {n:,} rows.")
    return n, {column: (known, low, high) for column, (known, _, low, high) in facts.items()}


def _why_left_out(
    column: str, categories: Mapping[str, list[str]], found: Mapping[str, tuple[int, float, float]], n: int
) -> str | None:
    if column in categories:
        return f"is {categories[column][0]} in all {n} rows" if len(categories[column]) == 1 else None
    n_known, low, high = found[column]
    if not n_known:
        return f"is missing in all {n} rows"
    return f"is {low:g} in all {n_known} rows that have it" if low == high else None


def _middle(part: Part, sql: str, low: float, high: float) -> float:
    if low == high:
        return low
    known = f"(SELECT v FROM (SELECT {sql} AS v FROM {part.view}) WHERE NOT isnan(v))"
    return median(part.database.scan, known, "v")


def _filled(sql: str, middle: float) -> str:
    return f"coalesce(nullif({sql}, 'nan'::DOUBLE), {number(middle)})"


def _dummies(column: str, values: list[str]) -> dict[str, str]:
    return {f"{column}={v}": f"CAST({text_sql(column)} = {text(v)} AS DOUBLE)" for v in values[1:]}
