"""Cells as a reader tells them apart: by the settings that a dataset's rows do not share."""

from typing import Any

import pandas as pd

from llmlat.report.wording import is_number

# How a setting reads, where it is one of several.
_WORDS = {
    "engine": "{}",
    "batch_size": "batch {}",
    "num_beams": "{} beams",
    "temperature": "temperature {}",
    "top_k": "top {}",
    "top_p": "top share {}",
}


def by_cell(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Divide rows by their cells, each named by what tells it from the others; one cell has no name."""
    varying = [name for name in _WORDS if rows[name].nunique(dropna=False) > 1]
    if not varying:
        return {"": rows}
    groups = rows.groupby(varying, dropna=False, sort=True)
    return {_name(dict(zip(varying, values, strict=True))): part for values, part in groups}


def _name(settings: dict[str, Any]) -> str:
    return ", ".join(_WORDS[name].format(_spelled(value)) for name, value in settings.items())


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if is_number(value) else "all"
