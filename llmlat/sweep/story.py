"""What a sweep says, in sentences: its result, its scope, and what nobody may overlook."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from llmlat.report import story as run_story
from llmlat.report.wording import counted, listed, ms, percent
from llmlat.sweep.choose import Choice, mixed, parts, roles_of
from llmlat.sweep.jobs import DONE, STATUSES
from llmlat.sweep.overrides import in_short, label, short_names
from llmlat.sweep.tables import reason

MAX_REASONS = 3


def result(jobs: pd.DataFrame, choices: Sequence[Choice]) -> str:
    """Say the result in one sentence: the setting chosen on validation folds, and its one test error."""
    if not (jobs["status"] == DONE).any():
        return f"No job of {len(jobs)} has a result."
    if not choices:
        return (
            "Nothing can be chosen here: no job has a validation error, and test rows are not for choosing."
        )
    near, far = (pick(choices, key=lambda choice: choice.test_mae_ms) for pick in (min, max))
    if len(choices) == 1:
        if near.n_settings == 1:
            return (
                f"With the only setting, predictions are off by {ms(near.test_mae_ms)} on the test "
                f"rows{_beside_guess(choices)}."
            )
        return (
            f"Of {near.n_settings} settings, {in_short(near.setting)} does best on validation folds "
            f"({ms(near.validation_mae_ms)}); on the untouched test rows it is off by "
            f"{ms(near.test_mae_ms)}{_beside_guess(choices)}."
        )
    return (
        "With settings chosen on validation folds and scored on untouched test rows, predictions are off by "
        f"{ms(near.test_mae_ms)} for {label(near.data)}{_with(near)} to {ms(far.test_mae_ms)} for "
        f"{label(far.data)}{_with(far)}{_beside_guess(choices)}."
    )


def _beside_guess(choices: Sequence[Choice]) -> str:
    """Say where a chosen setting is no better on the test rows than always guessing the mean."""
    beaten = [c for c in choices if c.guess_mae_ms is not None and c.test_mae_ms >= c.guess_mae_ms]
    if not beaten:
        return ""
    where = (
        ", which" if len(beaten) == len(choices) else f"; for {listed([label(c.data) for c in beaten])} that"
    )
    return f"{where} is no better than always guessing the mean"


def _with(choice: Choice) -> str:
    return f" ({in_short(choice.setting)})" if choice.setting else ""


def sensitivity(jobs: pd.DataFrame, swept: Sequence[str]) -> str | None:
    """Say how much the choice of a setting matters: the span of validation errors on the same rows."""
    roles = roles_of(swept)
    known = jobs[jobs["validation_mae_ms"].notna()]
    spans = {
        in_short(values): float(part["validation_mae_ms"].max() / part["validation_mae_ms"].min() - 1)
        for values, part in parts(known, [*roles.data, *roles.seeds])
        if len(part) > 1 and part["validation_mae_ms"].min() > 0
    }
    if not roles.settings or not spans:
        return None
    worst = max(spans, key=lambda name: spans[name])
    where = f", on {worst}" if worst else ""
    names = listed(list(short_names(roles.settings).values()))
    verdict = "hardly matters" if spans[worst] < 0.05 else "matters"
    return (
        f"The choice of {names} {verdict} here: the worst setting's validation error is at most "
        f"{percent(spans[worst])} above the best one's{where}."
    )


def scope(jobs: pd.DataFrame, swept: Sequence[str]) -> str:
    """Say how many jobs there are, what became of them, what was swept and measured."""
    tally = Counter(jobs["status"])
    became = listed([f"{tally[status]} {status}" for status in STATUSES if tally[status]])
    values = [f"{name} ({counted(jobs[key].nunique(), 'value')})" for key, name in short_names(swept).items()]
    datasets = jobs["dataset_key"].nunique()
    over = f" over {listed(values)}" if values else ""
    return f"{counted(len(jobs), 'job')}{over}: {became}; {counted(datasets, 'dataset')} read."


def banners(jobs: pd.DataFrame, swept: Sequence[str]) -> list[tuple[str, str]]:
    """Return what nobody may overlook: stand-ins, random weights, jobs without a result, mixed datasets."""
    found = dict.fromkeys(banner for job in jobs.to_dict("records") for banner in _of_a_job(job))
    return [*found, *_unfinished(jobs), *_mixed(jobs, swept), *_unvalidated(jobs)]


def _of_a_job(job: Mapping[Any, Any]) -> list[tuple[str, str]]:
    if job["status"] != DONE:
        return []
    stand_in = job["stand_in"] is not pd.NA and bool(job["stand_in"])
    return run_story.banners({**job, "stand_in": stand_in, "notices": None})


def _unfinished(jobs: pd.DataFrame) -> list[tuple[str, str]]:
    without = jobs[jobs["status"] != DONE]
    if without.empty:
        return []
    reasons = Counter(_shortened(reason(job)) for job in without.to_dict("records"))
    told = [f"{counted(n, 'job')}: {said}" for said, n in reasons.most_common(MAX_REASONS)]
    more = [f"{len(reasons) - MAX_REASONS} more reasons below"] if len(reasons) > MAX_REASONS else []
    tally = Counter(without["status"])
    became = listed([f"{tally[status]} {status}" for status in STATUSES if tally[status]])
    return [(f"{became} of {counted(len(jobs), 'job')}.", " · ".join([*told, *more]))]


def _shortened(text: str, limit: int = 160) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= limit else f"{line[:limit]}…"


def _mixed(jobs: pd.DataFrame, swept: Sequence[str]) -> list[tuple[str, str]]:
    """Tell where jobs that differ in their setting alone were measured more than once."""
    apart = mixed(jobs, [key for key in swept if key != "dataset_key"])
    if not apart:
        return []
    said = "each dataset is looked at by itself, and nothing is chosen across them."
    where = listed([in_short(values) or "all" for values in apart])
    return [("Measured more than once.", f"{where}: jobs read different datasets, so {said}")]


def _unvalidated(jobs: pd.DataFrame) -> list[tuple[str, str]]:
    done = jobs[jobs["status"] == DONE]
    without = done[done["validation_mae_ms"].isna()]
    if without.empty:
        return []
    reasons = list(dict.fromkeys(without["validation_reason"].dropna())) or ["made before llmlat had them"]
    said = f"{counted(len(without), 'job')} cannot be chosen from: {listed(reasons[:MAX_REASONS])}."
    return [("No validation errors.", said)]
