"""Regressors that sums do not decide: fitted on whole requests, drawn at random up to so many rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.errors import ConfigError, one_line
from llmlat.fit.fitting import fit_as_asked
from llmlat.fit.large.parts import Groups, draw_groups, groups_of
from llmlat.fit.large.rows import GROUP, Part
from llmlat.records import TARGET


@dataclass(frozen=True)
class Sample:
    """Rows of whole requests, and how many there would have been.

    Attributes
    ----------
    frame : DataFrame
        The columns, `token_latency_ms`, and the request as `_group`; sorted, so that threads leave no trace.
    drawn, all : Groups
    """

    frame: pd.DataFrame
    drawn: Groups
    all: Groups

    def __str__(self) -> str:
        drawn, every = self.drawn, self.all
        if len(drawn.ids) == len(every.ids):
            return f"all rows: {len(every.ids):,} requests, {every.n_rows:,} rows"
        return (
            f"sampled by group: {len(drawn.ids):,} of {len(every.ids):,} requests, "
            f"{drawn.n_rows:,} of {every.n_rows:,} rows"
        )


def sample(part: Part, n_rows: int, seed: int) -> Sample:
    """Draw whole requests until they hold so many rows, and read those rows alone.

    Parameters
    ----------
    part : Part
    n_rows : int
        The last request that is drawn may exceed it.
    seed : int
    """
    every = groups_of(part)
    drawn = draw_groups(every, n_rows, seed)
    part.database.keep("drawn", pd.DataFrame({"id": drawn.ids}))
    frame = part.database.frame(f"FROM {part.view} SEMI JOIN drawn ON {GROUP} = id ORDER BY ALL")
    return Sample(frame, drawn, every)


def fit_sample(pipeline: Pipeline, drawn: Sample, columns: Sequence[str]) -> Pipeline:
    """Return a copy of the pipeline, fitted on a sample.

    Raises
    ------
    ConfigError
        Where the regressor cannot be fitted on it.
    """
    rows = drawn.frame
    try:
        return fit_as_asked(pipeline, rows[list(columns)], rows[TARGET].to_numpy(), rows[GROUP].to_numpy())
    except ValueError as error:
        raise ConfigError(f"regressor: cannot be fitted on these rows ({one_line(error)}).") from error
