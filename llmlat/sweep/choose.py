"""The best setting of each measurement, chosen on validation folds and only then scored on the test rows."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from llmlat.sweep.jobs import DONE

SEED_KEYS = ("seed", "split.seed")
SETTING_GROUPS = ("features", "regressor")


@dataclass(frozen=True)
class Roles:
    """What each swept key does.

    Attributes
    ----------
    data : list of str
        Those that decide what is measured or tested, such as `prompt_set`: errors across their values
        are errors on different rows, and no choice is made among them.
    settings : list of str
        Those of the regressor and its features, among which a choice is made.
    seeds : list of str
        Those that only repeat.
    """

    data: list[str]
    settings: list[str]
    seeds: list[str]


@dataclass(frozen=True)
class Choice:
    """The setting that did best on validation folds, and its error on the test rows.

    Where seeds are swept, each seed chooses on its own training rows and is scored on its own test rows,
    since one seed's test rows are another's training rows; errors are means over seeds.

    Attributes
    ----------
    data : dict
        The values of the keys that decide what was measured.
    setting : dict
        The values of the chosen setting; of the most often chosen one where there are seeds.
    n_settings : int
        How many settings there were to choose from.
    n_planned : int
        How many there would have been, had every job finished.
    n_seeds, n_agreed : int
        How many seeds chose, and how many of them chose this setting.
    validation_mae_ms, test_mae_ms : float
        Of what each seed chose.
    validation_sd_ms, test_sd_ms : float or None
        Standard deviations over seeds; None where there is one.
    jobs : tuple of str
        The chosen jobs.
    guess_mae_ms : float or None
        What always guessing the mean would be off by on the same test rows, where that is known.
    """

    data: dict[str, Any]
    setting: dict[str, Any]
    n_settings: int
    n_planned: int
    n_seeds: int
    n_agreed: int
    validation_mae_ms: float
    test_mae_ms: float
    validation_sd_ms: float | None
    test_sd_ms: float | None
    jobs: tuple[str, ...]
    guess_mae_ms: float | None = None


def roles_of(swept: Sequence[str]) -> Roles:
    """Tell apart the keys that decide what is measured, the settings to choose among, and the seeds."""
    seeds = [key for key in swept if key in SEED_KEYS]
    settings = [key for key in swept if key.partition(".")[0] in SETTING_GROUPS]
    return Roles([key for key in swept if key not in {*seeds, *settings}], settings, seeds)


def parts(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the values of keys and the rows that have them, in the order of first appearance."""
    if not keys:
        yield {}, frame
        return
    for values, part in frame.groupby(list(keys), sort=False, dropna=False):
        yield dict(zip(keys, values, strict=True)), part


def is_mixed(jobs: pd.DataFrame, swept: Sequence[str]) -> bool:
    """Tell whether jobs that differ in their setting alone were done on different data."""
    return bool(mixed(jobs, swept))


def mixed(jobs: pd.DataFrame, swept: Sequence[str]) -> list[dict[str, Any]]:
    """Return the measurements whose jobs, differing in their setting alone, were done on different data."""
    roles = roles_of(swept)
    keys = [*roles.data, *(key for key in roles.seeds if key == "seed")]
    return [at for at, part in parts(jobs, keys) if part["dataset_key"].nunique() > 1]


def choose(jobs: pd.DataFrame, swept: Sequence[str]) -> list[Choice]:
    """Choose the best setting for each measurement.

    Parameters
    ----------
    jobs : DataFrame
        From `read_jobs`.
    swept : sequence of str
        The swept keys.

    Returns
    -------
    list of Choice
        One for each combination of the keys that decide what is measured; none where no job of it has a
        validation error. Test errors are looked at only after the choice.
    """
    roles = roles_of(swept)
    found = (_choose(data, part, roles) for data, part in parts(jobs, roles.data))
    return [choice for choice in found if choice is not None]


def _choose(data: dict[str, Any], jobs: pd.DataFrame, roles: Roles) -> Choice | None:
    known = jobs[(jobs["status"] == DONE) & jobs["validation_mae_ms"].notna()]
    if known.empty:
        return None
    # One a seed; the first among equals.
    picked = pd.concat(
        part.nsmallest(1, "validation_mae_ms", keep="first") for _, part in parts(known, roles.seeds)
    )
    setting, agreed = _most_chosen(picked, roles.settings)
    validation, test = picked["validation_mae_ms"].tolist(), picked["mae_ms"].tolist()
    guesses = picked["mean_guess_mae_ms"].tolist() if "mean_guess_mae_ms" in picked else [nan]
    return Choice(
        data,
        setting,
        _count(known, roles.settings),
        _count(jobs, roles.settings),
        len(picked),
        agreed,
        fmean(validation),
        fmean(test),
        stdev(validation) if len(picked) > 1 else None,
        stdev(test) if len(picked) > 1 else None,
        tuple(picked["job"]),
        fmean(guesses) if not any(map(isnan, guesses)) else None,
    )


def _most_chosen(picked: pd.DataFrame, keys: list[str]) -> tuple[dict[str, Any], int]:
    chosen = [_hashable(row, keys) for _, row in picked.iterrows()]
    votes = Counter(chosen)
    best = max(votes, key=lambda values: (votes[values], -_mean_of(picked, chosen, values)))
    row = picked.iloc[chosen.index(best)]
    return {key: row[key] for key in keys}, votes[best]


def _hashable(row: pd.Series, keys: list[str]) -> tuple[Hashable, ...]:
    return tuple(None if pd.isna(row[key]) else row[key] for key in keys)


def _mean_of(picked: pd.DataFrame, chosen: list[Any], values: Any) -> float:
    return float(picked["validation_mae_ms"][[each == values for each in chosen]].mean())


def _count(jobs: pd.DataFrame, keys: list[str]) -> int:
    return len(jobs[keys].drop_duplicates()) if keys else 1
