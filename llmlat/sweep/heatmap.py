"""MAE over the two most varied swept keys: a table whose cells are coloured by their error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmlat.report.wording import MISSING, is_number, number
from llmlat.sweep.choose import Choice, parts, roles_of
from llmlat.sweep.overrides import label, short_names, spelled
from llmlat.sweep.seeds import over_seeds

WIDE = 10.0  # errors that span more than this ratio are coloured on a log scale
NARROW = 0.05  # errors within this share of the largest are coloured alike, not stretched apart
MAX_PANELS = 6
STRONGEST = 50  # percent of the colour that the largest error gets, so that text on it stays readable


@dataclass(frozen=True)
class Cell:
    """A combination of two values.

    Attributes
    ----------
    text : str
        The error as it is spelled, or why there is none.
    spread : str
        Its standard deviation over seeds, or nothing.
    strength : int or None
        How much colour, in percent; None where there is no error.
    is_chosen : bool
        Whether the chosen setting of its row is here.
    """

    text: str
    spread: str
    strength: int | None
    is_chosen: bool


@dataclass(frozen=True)
class HeatMap:
    """A table of errors.

    Attributes
    ----------
    title, caption : str
    row_key, column_key : str
        In short.
    columns : tuple of str
        The values along the top.
    rows : tuple of (str, tuple of Cell)
        A value and its cells.
    """

    title: str
    caption: str
    row_key: str
    column_key: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def most_varied(jobs: pd.DataFrame, swept: Sequence[str]) -> tuple[str, str] | None:
    """Return the two swept keys with the most values, seeds apart: down the side, and along the top.

    What decides the measurement goes down the side, what has numbers along the top.
    """
    roles = roles_of(swept)
    keys = sorted((key for key in swept if key not in roles.seeds), key=lambda key: -jobs[key].nunique())[:2]
    if len(keys) < 2:
        return None
    is_number_key = pd.api.types.is_numeric_dtype
    side, top = sorted(keys, key=lambda key: (key not in roles.data, is_number_key(jobs[key])))
    return side, top


def panel_keys(swept: Sequence[str], shown: Sequence[str | None]) -> list[str]:
    """Return the keys that decide what is measured and are on no axis: each of their values gets a panel."""
    return [key for key in roles_of(swept).data if key not in shown]


def heat_maps(jobs: pd.DataFrame, swept: Sequence[str], choices: Sequence[Choice]) -> list[HeatMap]:
    """Return MAE on validation folds, where there are any, and on the test rows; none below two keys.

    Where more keys decide what is measured than the one down the side, each of their values gets a pair.
    """
    keys = most_varied(jobs, swept)
    if keys is None:
        return []
    table = over_seeds(jobs, swept)
    apart = panel_keys(swept, keys)
    panels = list(parts(table, apart))
    notes = _notes(table, [*keys, *apart], bool(roles_of(swept).seeds)) + left_out(len(panels))
    found = []
    for values, panel in panels[:MAX_PANELS]:
        chosen = _chosen(choices, values, keys)
        for title, said, value in _measures(table):
            where = f"{label(values)}: {title}" if values else title[0].upper() + title[1:]
            found.append(_heat_map(where, said + notes, panel, table, keys, value, chosen))
    return found


def left_out(n_panels: int) -> str:
    """Say where not every measurement is shown."""
    if n_panels <= MAX_PANELS:
        return ""
    return f" The first {MAX_PANELS} of {n_panels} measurements are shown; the table of jobs holds all."


def _notes(table: pd.DataFrame, keys: list[str], with_seeds: bool) -> str:
    """Return what a cell stands for, where it is more than one job."""
    n_over = int(table.groupby(keys, dropna=False).size().max())
    seeds = " Means over seeds, ± their standard deviation." if with_seeds else ""
    return seeds + (" Over the other swept keys, a cell is the best on validation." if n_over > 1 else "")


def _measures(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return title, caption and column of each error that is mapped."""
    on_test = "on the untouched test rows, MAE in ms"
    if not table["validation_mae_ms"].notna().any():
        return [(on_test, "Nothing is chosen here: these jobs have no validation errors.", "mae_ms")]
    said = "For comparison only: nothing is chosen here. Outlined: what validation chose."
    return [
        ("on validation folds, MAE in ms", "What is chosen by. Outlined: the choice.", "validation_mae_ms"),
        (on_test, said, "mae_ms"),
    ]


def _chosen(choices: Sequence[Choice], values: dict[str, Any], keys: tuple[str, str]) -> set[Any]:
    """Return the cells of a panel that were chosen."""
    here = [
        choice for choice in choices if all(spelled(choice.data[k]) == spelled(v) for k, v in values.items())
    ]
    return {tuple(spelled({**choice.data, **choice.setting}.get(key)) for key in keys) for choice in here}


def _heat_map(
    title: str,
    caption: str,
    panel: pd.DataFrame,
    table: pd.DataFrame,
    keys: tuple[str, str],
    value: str,
    chosen: set[Any],
) -> HeatMap:
    side, top = (_in_order(panel[key]) for key in keys)
    best = {
        (spelled(row), spelled(column)): _best(part)
        for (row, column), part in panel.groupby(list(keys), sort=False, dropna=False)
    }
    # Of all panels, so that a colour means the same in each.
    scale = [float(error) for error in table[value].dropna()]
    rows = tuple(
        (row, tuple(_cell(best.get((row, column)), value, scale, (row, column) in chosen) for column in top))
        for row in side
    )
    names = short_names(keys)
    return HeatMap(title, caption, names[keys[0]], names[keys[1]], tuple(top), rows)


def _best(part: pd.DataFrame) -> pd.Series:
    """Return the row that did best on validation; the first where none was validated."""
    return part.sort_values("validation_mae_ms", kind="stable", na_position="last").iloc[0]


def _in_order(values: pd.Series) -> list[str]:
    seen = values.drop_duplicates()
    return [spelled(value) for value in (seen.sort_values() if pd.api.types.is_numeric_dtype(seen) else seen)]


def _cell(at: pd.Series | None, value: str, scale: list[float], is_chosen: bool) -> Cell:
    if at is None:
        return Cell("", "", None, False)
    if not is_number(at[value]):
        return Cell(str(at["status"]) if not at["n_done"] else MISSING, "", None, False)
    spread = f"± {number(at[f'{value}_sd'], 2)}" if is_number(at[f"{value}_sd"]) else ""
    return Cell(number(at[value], 4), spread, _strength(float(at[value]), scale), is_chosen)


def _strength(value: float, scale: list[float]) -> int:
    low, high = min(scale), max(scale)
    if low > 0 and high / low > WIDE:
        share = math.log(value / low) / math.log(high / low)
    else:
        share = (value - low) / (max(high - low, NARROW * high) or 1.0)
    return round(4 + (STRONGEST - 4) * share)
