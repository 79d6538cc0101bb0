"""What a team reads of a sweep beside its panels, as markdown: functions of its jobs and its folder."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from llmlat.files import read_object
from llmlat.report import story, tables
from llmlat.report.markdown import escaped
from llmlat.report.markdown import table as as_markdown
from llmlat.report.table import Column, Table
from llmlat.report.wording import counted, listed, number, sentence
from llmlat.sweep.choose import choose, roles_of
from llmlat.sweep.jobs import DONE
from llmlat.sweep.overrides import in_short, spelled

MOST_ROWS = 30
MOST_VALUES = 12
LONGEST_REASON = 300
EXPECTED = ("job", "status", "overrides", "mae_ms", "validation_mae_ms", "dataset_key", "error")


@dataclass(frozen=True)
class Review:
    """A sweep to review.

    Attributes
    ----------
    folder : Path
        The sweep's folder.
    jobs : DataFrame
        A row a job, as `llmlat.sweep.frame.read_jobs` returns it; what it lacks is missing in the report.
    """

    folder: Path
    jobs: pd.DataFrame

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The jobs, with every column that is read here."""
        columns = dict.fromkeys([*self.jobs.columns, *EXPECTED])
        return self.jobs.reindex(columns=list(columns)).reset_index(drop=True)

    @cached_property
    def swept(self) -> list[str]:
        """The swept keys, which stand between `overrides` and `mae_ms`."""
        names = list(self.jobs.columns)
        if not {"overrides", "mae_ms"} <= set(names):
            return []
        return names[names.index("overrides") + 1 : names.index("mae_ms")]

    @cached_property
    def done(self) -> pd.DataFrame:
        """The jobs with a result."""
        return self.frame[self.frame["status"] == DONE]

    @property
    def experiment(self) -> str:
        """The experiment's name: its folders are named by it."""
        return self.folder.resolve().parent.name

    @property
    def title(self) -> str:
        """The report's title, within the 128 characters that W&B allows."""
        return f"{self.experiment}: sweep {self.folder.resolve().name}"[:128]

    def metrics(self, job: Any) -> dict[str, Any]:
        """Return a job's metrics; nothing where there are none to read."""
        try:
            return read_object(self.folder / str(job) / "metrics.json")
        except (OSError, ValueError):
            return {}


def asked(review: Review) -> str:
    """Say what was swept, and what became of it."""
    counts = review.frame["status"].value_counts()
    became = listed([f"{n} {status}" for status, n in counts.items()])
    said = f"{counted(len(review.jobs), 'job')} of **{escaped(review.experiment)}**: {became}."
    rows = tuple((key, _values(review.frame[key])) for key in review.swept)
    keys = Table("", (Column("swept", right=False), Column("values", right=False)), rows)
    return "\n\n".join([said, *([as_markdown(keys)] if rows else [])])


def _values(column: "pd.Series[Any]") -> str:
    values = [spelled(value) for value in column.drop_duplicates()]
    more = len(values) - MOST_VALUES
    return ", ".join(values[:MOST_VALUES]) + (f" and {more} more" if more > 0 else "")


def banners(review: Review) -> list[str]:
    """Return what nobody may overlook: stand-ins, random weights and other notices, each once."""
    found = []
    for row in review.done.drop_duplicates("dataset_key").to_dict("records"):
        told = {str(key): value for key, value in row.items() if not pd.isna(value)}
        metrics = {"stand_in": False, "weights": None, "model": "model", **told, **review.metrics(row["job"])}
        found += [f"{start} {rest}" for start, rest in story.banners(metrics)]
    return list(dict.fromkeys(found))


def chosen(review: Review) -> str:
    """Lay out the best settings, chosen on validation folds and then scored once on the test rows."""
    choices = choose(review.frame, review.swept)
    if not choices:
        return "No job has an error on validation folds, and a choice on the test rows would flatter itself."
    rows = tuple(
        (
            in_short(choice.data) or review.experiment,
            in_short(choice.setting) or "the only one",
            str(choice.n_settings),
            number(choice.validation_mae_ms),
            number(choice.test_mae_ms),
        )
        for choice in choices
    )
    heads = [Column("measured", right=False), Column("best setting", right=False), Column("out of")]
    heads += [Column("validation MAE, ms"), Column("test MAE, ms")]
    note = "Chosen by the error on folds of the training rows; only then scored, once, on the test rows."
    return f"{as_markdown(Table('', tuple(heads), rows))}\n\n{note}"


def error_by_setting(review: Review) -> str:
    """Lay out the test MAE of each setting (down) on each measurement (across), as means over seeds."""
    roles, done = roles_of(review.swept), review.done[review.done["mae_ms"].notna()]
    if done.empty:
        return "No job has a result."
    named = done.assign(
        setting=_spelled_rows(done, roles.settings) or "every setting",
        data=_spelled_rows(done, roles.data) or review.experiment,
    )
    grid = named.pivot_table(index="setting", columns="data", values="mae_ms", aggfunc="mean", sort=False)
    step = -(-len(grid) // MOST_ROWS)
    shown = grid.iloc[::step, :MOST_VALUES]
    rows = tuple((str(name), *map(number, row)) for name, row in zip(shown.index, shown.values, strict=True))
    heads = (Column("test MAE, ms", right=False), *(Column(str(name)) for name in shown.columns))
    left_out = "" if shown.shape == grid.shape else f"\n\n{_left_out(shown, grid)}"
    return as_markdown(Table("", heads, rows)) + left_out


def _spelled_rows(jobs: pd.DataFrame, keys: list[str]) -> list[str]:
    return [in_short({str(key): row[key] for key in keys}) for _, row in jobs.iterrows()] if keys else []


def _left_out(shown: pd.DataFrame, grid: pd.DataFrame) -> str:
    rows, columns = (f"{kept} of {all_of}" for kept, all_of in zip(shown.shape, grid.shape, strict=True))
    return f"{rows} settings, evenly spaced, on {columns} measurements; sweep.html and the panels have all."


def paper(review: Review) -> str | None:
    """Set the published figures beside those of the first chosen job that has any, or return None."""
    picked = [job for choice in choose(review.frame, review.swept) for job in choice.jobs]
    for job in [*picked, *review.done["job"]]:
        metrics = review.metrics(job)
        if metrics.get("reference"):
            return _beside(metrics, str(job))
    return None


def _beside(metrics: Mapping[str, Any], job: str) -> str | None:
    table = tables.reference(metrics)
    if table is None:
        return None
    source = sentence(metrics["reference"].get("source", "the thesis"))
    ours = f"Ours: job {job}, on {metrics.get('device', 'an unknown device')}."
    parts = [escaped(f"Published: {source} {ours}"), as_markdown(table)]
    return "\n\n".join([*parts, escaped(table.note)])


def failures(review: Review) -> str | None:
    """Lay out the jobs without a result and why, or return None."""
    lost = review.frame[review.frame["status"] != DONE]
    if lost.empty:
        return None
    names = ["job", "overrides", "status", "error"]
    rows = tuple(tuple(map(_cell, row)) for row in lost[names].itertuples(index=False))
    heads = tuple(Column(name, right=False) for name in (*names[:-1], "why"))
    return as_markdown(Table("", heads, rows))


def _cell(value: Any) -> str:
    text = " ".join(str(value).split()) if pd.notna(value) else "it left no word"
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def command(review: Review) -> str:
    """Return the command that sweeps again, from what Hydra kept of it."""
    given = _task_overrides(review.folder / "multirun.yaml") or [f"+experiment={review.experiment}"]
    return shlex.join(["python", "-m", "llmlat", "-m", *given])


def _task_overrides(path: Path) -> list[str]:
    try:
        kept = yaml.safe_load(path.read_text(encoding="utf-8"))
        found: Iterable[Any] = kept["hydra"]["overrides"]["task"]
        return [str(override) for override in found]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []
