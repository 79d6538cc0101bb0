"""The overrides that tell the jobs of a sweep apart, and how they are spelled in short."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from llmlat.report.wording import is_number

Value = bool | int | float | str | None

ABSENT = "(default)"
"""Stands where a job does not override a key that other jobs do."""


def parse(overrides: Iterable[str]) -> dict[str, Value]:
    """Return key and value of each override, Hydra's own settings left out.

    Parameters
    ----------
    overrides : iterable of str
        As `.hydra/overrides.yaml` lists them, such as `regressor.alpha=0.1` or `+experiment=thesis`.

    Examples
    --------
    >>> parse(["prompt_set=short", "+regressor.max_depth=3", "hydra.job.num=1"])
    {'prompt_set': 'short', 'regressor.max_depth': 3}
    """
    pairs = (_parse_one(override) for override in overrides)
    return {key: value for key, value in pairs if key.partition(".")[0].partition("/")[0] != "hydra"}


@lru_cache(maxsize=4096)
def _parse_one(override: str) -> tuple[str, Value]:
    try:
        parsed = OverridesParser.create().parse_override(override)
        value: Any = parsed.value()
    except HydraException:
        # What Hydra's grammar of today refuses is still told apart by its text.
        key, _, value = override.lstrip("+~").partition("=")
        return key, value
    # As text: where a job leaves the key alone, a table has nothing, and null is not that.
    value = "null" if value is None else value
    return parsed.key_or_group, value if isinstance(value, bool | int | float | str) else str(value)


def swept_keys(jobs: Sequence[Mapping[str, Value]]) -> list[str]:
    """Return the keys whose values differ among jobs, in the order in which they first appear."""
    keys = dict.fromkeys(key for job in jobs for key in job)
    # With its type: 1 equals True, and both may be swept.
    return [key for key in keys if len({(type(job.get(key)), job.get(key), key in job) for job in jobs}) > 1]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return each key's last part, or the whole key where the last part would not tell it from another.

    Examples
    --------
    >>> short_names(["prompt_set", "regressor.alpha"])
    {'prompt_set': 'prompt_set', 'regressor.alpha': 'alpha'}
    """
    last = {key: key.rpartition(".")[2] for key in keys}
    return {key: key if list(last.values()).count(name) > 1 else name for key, name in last.items()}


def spelled(value: Any) -> str:
    """Spell an override's value as a command would, whole numbers without a point."""
    if is_number(value):
        return f"{value:.12g}"
    return ABSENT if value is None or value != value else str(value)


def label(values: Mapping[str, Any]) -> str:
    """Name a combination of values: by the value alone where there is one key, otherwise in short."""
    return spelled(next(iter(values.values()))) if len(values) == 1 else in_short(values)


def in_short(values: Mapping[str, Any]) -> str:
    """Spell overrides on one line, as in `prompt_set=short alpha=0.1`."""
    names = short_names(values)
    told = {names[key]: spelled(value) for key, value in values.items()}
    given = {name: value for name, value in told.items() if value != ABSENT}
    return " ".join(f"{name}={value}" for name, value in (given or told).items())
