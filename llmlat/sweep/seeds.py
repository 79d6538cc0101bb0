"""Errors over seeds: the mean and the spread of jobs that differ in their seed alone."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from llmlat.sweep.choose import parts, roles_of
from llmlat.sweep.jobs import DONE


def over_seeds(jobs: pd.DataFrame, swept: Sequence[str]) -> pd.DataFrame:
    """Return a row for each combination of the swept keys but the seeds.

    Parameters
    ----------
    jobs : DataFrame
        From `read_jobs`.
    swept : sequence of str
        The swept keys.

    Returns
    -------
    DataFrame
        The keys, `n_jobs`, `n_done`, `status` (of the first job that is not done, or `done`), and for each
        error and coefficient `<name>` (the mean over jobs that are done) and `<name>_sd` (their standard
        deviation; NaN where fewer than two are).
    """
    keys = [key for key in swept if key not in roles_of(swept).seeds]
    named = [name for name in map(str, jobs) if name.startswith(("scaled_ms.", "per_unit_ms."))]
    rows = [{**at, **_over(part, ["mae_ms", "validation_mae_ms", *named])} for at, part in parts(jobs, keys)]
    return pd.DataFrame(rows).astype({key: jobs[key].dtype for key in keys})


def _over(part: pd.DataFrame, values: list[str]) -> dict[str, Any]:
    done, rest = part[part["status"] == DONE], part.loc[part["status"] != DONE, "status"]
    return {
        "n_jobs": len(part),
        "n_done": len(done),
        "status": rest.iloc[0] if len(rest) else DONE,
        **{name: float(done[name].mean()) for name in values},
        **{f"{name}_sd": float(done[name].std()) for name in values},
    }
