"""Sums up a sweep: its table, its page, and the lines for the terminal."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from llmlat.dataset import write_frame
from llmlat.files import write_atomically
from llmlat.sweep import story
from llmlat.sweep.choose import Choice, choose, is_mixed
from llmlat.sweep.frame import read_jobs, swept_in
from llmlat.sweep.page import page


@dataclass(frozen=True)
class Summary:
    """A sweep, summed up.

    Attributes
    ----------
    folder : Path
        The sweep's folder, which holds sweep.parquet, sweep.csv and sweep.html.
    jobs : DataFrame
        A row a job, as `read_jobs` returns them.
    swept : tuple of str
        The keys whose values differ among jobs.
    choices : tuple of Choice
        The best setting of each measurement, chosen on validation folds and then scored on the test rows.
    """

    folder: Path
    jobs: pd.DataFrame
    swept: tuple[str, ...]
    choices: tuple[Choice, ...]

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        return story.result(self.jobs, self.choices)


def summarise(folder: Path) -> Summary:
    """Write sweep.parquet, sweep.csv and sweep.html into a sweep's folder, each whole or not at all.

    Parameters
    ----------
    folder : Path
        A sweep's folder, or any folder with job folders below it; jobs that failed or were killed count too.

    Raises
    ------
    DatasetError
        Where the folder is missing, holds no job, or cannot be written.
    """
    jobs = read_jobs(folder)
    swept = swept_in(jobs)
    if is_mixed(jobs, swept):  # no choice is made, and no mean taken, across rows that were measured apart
        swept = [*swept, "dataset_key"]
    choices = choose(jobs, swept)
    write_frame(folder / "sweep.parquet", jobs)
    write_atomically(folder / "sweep.csv", _for_spreadsheets(jobs).to_csv(index=False).encode())
    write_atomically(folder / "sweep.html", page(_title(jobs, folder), jobs, swept, choices).encode())
    return Summary(folder, jobs, tuple(swept), tuple(choices))


def _for_spreadsheets(jobs: pd.DataFrame) -> pd.DataFrame:
    """Keep a spreadsheet from computing a cell: text is text."""
    texts: dict[str, pd.Series] = {
        str(name): jobs[name].where(~jobs[name].str.match(r"[=+\-@\t\r]", na=False), "'" + jobs[name])
        for name in jobs
        if pd.api.types.is_string_dtype(jobs[name])
    }
    return jobs.assign(**texts)


def _title(jobs: pd.DataFrame, folder: Path) -> str:
    named = jobs["experiment"].dropna().unique()
    return str(named[0]) if len(named) == 1 else folder.resolve().name
