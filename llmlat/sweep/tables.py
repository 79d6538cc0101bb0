"""The tables of a sweep: what was chosen, and every job."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from llmlat.report.table import Column, Table
from llmlat.report.wording import count, fit_quality, is_number, number, percent
from llmlat.sweep.choose import Choice
from llmlat.sweep.jobs import DONE, NOT_BEGUN
from llmlat.sweep.overrides import in_short, short_names, spelled

# Column of the table of jobs: heading, and how its number is spelled.
RESULTS = {
    "validation_mae_ms": "validation MAE, ms",
    "mae_ms": "test MAE, ms",
    "rmse_ms": "test RMSE, ms",
    "median_ae_ms": "median miss, ms",
    "r2": "R²",
    "mape": "MAPE",
    "by_request_mae_ms": "MAE on whole requests, ms",
    "noise_floor_mae_ms": "noise floor, ms",
    "mean_guess_mae_ms": "guessing the mean, ms",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class SortableCell:
    """A cell as it reads, as it sorts (a number as text, or the text itself), and where it leads."""

    text: str
    value: str
    link: str = ""


@dataclass(frozen=True)
class SortableTable:
    """A table whose reader chooses the order.

    Attributes
    ----------
    headers : tuple of (str, bool)
        A heading, and whether its column sorts as numbers.
    rows : tuple of (str, tuple of SortableCell)
        A job's status and its cells.
    """

    headers: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, tuple[SortableCell, ...]], ...]


def choices_table(choices: Sequence[Choice]) -> Table | None:
    """Set each measurement's chosen setting beside its validation error and its one test error."""
    if not choices:
        return None
    with_seeds = any(choice.n_seeds > 1 for choice in choices)
    with_guess = any(choice.guess_mae_ms is not None for choice in choices)
    names = short_names([*choices[0].data])
    columns = [
        *(Column(names[key], right=False) for key in choices[0].data),
        Column("chosen", right=False),
        Column("validation MAE, ms"),
        Column("test MAE, ms"),
        *([Column("guessing the mean, MAE, ms")] if with_guess else []),
        Column("from settings"),
        *([Column("seeds that agree")] if with_seeds else []),
    ]
    rows = tuple(_choice_row(choice, with_seeds, with_guess) for choice in choices)
    note = (
        "Chosen on folds of the training rows; the test MAE was looked at once, after the choice. It is the "
        "honest one: the lowest of many test errors would flatter."
    )
    if with_seeds:
        note += " Each seed chooses for itself, and the errors are means over what each chose."
    return Table("The best setting", tuple(columns), rows, note)


def _choice_row(choice: Choice, with_seeds: bool, with_guess: bool) -> tuple[str, ...]:
    tried = count(choice.n_settings)
    if choice.n_settings < choice.n_planned:
        tried += f" of {count(choice.n_planned)}"
    return (
        *(spelled(value) for value in choice.data.values()),
        in_short(choice.setting) or "the only setting",
        with_spread(choice.validation_mae_ms, choice.validation_sd_ms),
        with_spread(choice.test_mae_ms, choice.test_sd_ms),
        *([number(choice.guess_mae_ms, 4)] if with_guess else []),
        tried,
        *([f"{choice.n_agreed} of {choice.n_seeds}"] if with_seeds else []),
    )


def with_spread(mean: float, spread: float | None) -> str:
    """Spell a mean, with its standard deviation where there is one."""
    return number(mean, 4) + (f" ± {number(spread, 2)}" if is_number(spread) else "")


def jobs_table(jobs: pd.DataFrame, swept: Sequence[str]) -> SortableTable:
    """Lay out every job, failed ones with their reason."""
    names = short_names(swept)
    results = {name: head for name, head in RESULTS.items() if jobs[name].notna().any()}
    shows_reason = (jobs["status"] != DONE).any()
    headers = [("job", jobs["job"].str.isdecimal().all()), ("status", False)]
    headers += [(names[key], pd.api.types.is_numeric_dtype(jobs[key])) for key in swept]
    headers += [(head, True) for head in results.values()]
    headers += [("dataset", False), *([("reason", False)] if shows_reason else [])]
    rows = tuple(
        (
            row["status"],
            (
                SortableCell(row["job"], row["job"], _report_of(row)),
                _words(_became(row)),
                *(SortableCell(spelled(row[key]), _sorting(row[key])) for key in swept),
                *(SortableCell(_result(name, row[name]), _sorting(row[name])) for name in results),
                _words(_text(row["dataset_key"])[:8]),
                *([_words(reason(row))] if shows_reason else []),
            ),
        )
        for row in jobs.to_dict("records")
    )
    return SortableTable(tuple((head, bool(numeric)) for head, numeric in headers), rows)


def reason(job: Any) -> str:
    """Say why a job has no result; nothing where it has one."""
    if job["status"] == DONE:
        return ""
    said = ": ".join(filter(None, (_text(job["error_class"]), _text(job["error"]))))
    if said:
        return said
    if job["status"] == NOT_BEGUN:
        return "the sweep ended before its turn"
    return "no result and no failure: it was killed, or still runs"


def _became(job: Any) -> str:
    return ": ".join(filter(None, (job["status"], _text(job["error_class"]))))


def _report_of(job: Any) -> str:
    return f"{quote(job['job'])}/report.html" if job["status"] == DONE else ""


def _words(text: str) -> SortableCell:
    return SortableCell(text, text)


def _result(name: str, value: Any) -> str:
    if not is_number(value):
        return ""
    match name:
        case "r2":
            return fit_quality(value)
        case "mape":
            return percent(value)
    return number(value, 3 if name == "seconds" else 4)


def _sorting(value: Any) -> str:
    return repr(float(value)) if is_number(value) else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
