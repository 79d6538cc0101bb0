"""Somebody's CSV, as it is meant: whatever its separator, encoding, decimal mark and words for nothing."""

import csv
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "#n/a", "-", "<na>"})
"""What stands for nothing among numbers, in small letters; among texts, only an empty cell does."""

_SEPARATORS = ",;\t|"
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_GROUPED = r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?"
_DECIMAL_COMMA = r"[+-]?\d+,\d+([eE][+-]?\d+)?"


def read_csv(path: Path, n_rows: int | None = None) -> pd.DataFrame:
    """Return a CSV's rows: numbers where all that is there is one, texts as they stand.

    Lines before the header that begin with `#` are passed over; the separator is whichever of comma,
    semicolon, tab and bar the header has most of. A compressed file is read as pandas reads it.

    Raises
    ------
    ValueError
        Where two columns have one name.
    OSError, pandas.errors.ParserError
    """
    encoding = _encoding(path)
    settings: dict[str, Any] = {"encoding": encoding, "encoding_errors": "replace", "keep_default_na": False}
    first = pd.read_csv(path, sep="\0", header=None, nrows=50, dtype=str, quoting=csv.QUOTE_NONE, **settings)
    lines = [str(line) for line in first[0]]
    n_remarks = len(list(takewhile(lambda line: line.startswith("#"), lines)))
    header = lines[n_remarks] if n_remarks < len(lines) else ""
    separator = max(_SEPARATORS, key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator, skipinitialspace=True))]
    check_names(names)
    settings |= {"sep": separator, "header": n_remarks, "skipinitialspace": True, "na_values": [""]}
    rows = pd.read_csv(path, nrows=n_rows, low_memory=False, **settings)
    rows.columns = pd.Index([str(name).strip() for name in rows.columns])
    return numbers_where_they_are(rows)


def check_names(names: list[str]) -> None:
    """Refuse a header in which two columns have one name.

    Raises
    ------
    ValueError
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two of its columns are named {twice!r}; rename one")


def numbers_where_they_are(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose columns of texts are numbers, or truths, where all that is there is one."""
    found = {
        name: column if pd.api.types.is_numeric_dtype(column) else _as_numbers(column)
        for name, column in rows.items()
    }
    return pd.DataFrame(found, index=rows.index)


def _as_numbers(column: pd.Series) -> pd.Series:
    """Return a column of texts as the numbers that they spell; as it was where one of them spells none."""
    codes, values = pd.factorize(column)
    texts = pd.Series(values, dtype="string").str.strip()
    known = texts[~texts.str.lower().isin(MISSING)]
    if known.empty:
        return column if len(values) else pd.Series(float("nan"), column.index)
    numbers = _spelled(known).reindex(texts.index)
    if numbers[known.index].isna().any():
        return column
    is_missing = (codes < 0) | numbers.isna().to_numpy()[codes]
    found = pd.Series(numbers.to_numpy()[codes], column.index)
    return found.astype("float64").mask(is_missing) if is_missing.any() else found.infer_objects()


def _spelled(texts: pd.Series) -> pd.Series:
    """Return what texts spell: truths, or numbers, NaN where one is none."""
    if texts.str.lower().isin(["true", "false"]).all():
        return texts.str.lower().map({"true": True, "false": False}).astype(object)
    if texts.str.fullmatch(_GROUPED).any():
        texts = texts.str.replace(",", "", regex=False)
    elif texts.str.fullmatch(_DECIMAL_COMMA).any():
        texts = texts.str.replace(",", ".", regex=False)
    return pd.to_numeric(texts, errors="coerce").astype(object)


def _encoding(path: Path) -> str:
    with path.open("rb") as stream:
        beginning = stream.read(4)
    found = next((name for mark, name in _MARKS.items() if beginning.startswith(mark)), None)
    if found or path.suffix in {".gz", ".bz2", ".xz", ".zip", ".zst"}:
        return found or "utf-8"
    try:
        with path.open(encoding="utf-8") as text:
            for _ in text:
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"
