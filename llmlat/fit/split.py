"""How rows are divided between fitting and testing, and what the two must not share."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, did_you_mean
from llmlat.records import PROMPT, REQUEST, TIME

Positions = npt.NDArray[np.int64]
"""Positions of rows in a frame."""

MIN_TRAIN_ROWS, MIN_TEST_ROWS = 3, 2
UNITS = {
    SplitName.by_request: ("requests", REQUEST),
    SplitName.by_prompt: ("prompts", PROMPT),
    SplitName.by_time: ("requests", REQUEST),
}
"""What is held out whole, in words, and the column that names it."""

LEFT_OUT = ("engine", "quantization", "model")
"""Whose values are left out one at a time, where there are several."""

EXTRAPOLATED = "context_length"
"""What `extrapolate` sorts rows by unless `split.column` says otherwise."""


@dataclass(frozen=True)
class Counts:
    """How much there is to divide; known before anything is measured."""

    rows: int
    requests: int
    prompts: int

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Counts":
        """Count what a frame holds."""
        return cls(len(rows), rows[REQUEST].nunique(), rows[PROMPT].nunique())


def prompts_repeat(rows: pd.DataFrame) -> bool:
    """Whether several prompts were measured, and one of them more than once."""
    return 1 < rows[PROMPT].nunique() < rows[REQUEST].nunique()


def group_of(rows: pd.DataFrame, split: SplitConfig) -> str:
    """Return the column of what is alike: its values are kept apart by folds, bands and choices.

    Raises
    ------
    ConfigError
        Where `split.group` is no column of the rows.
    """
    if split.group == "auto":
        return PROMPT if split.name is SplitName.by_prompt or prompts_repeat(rows) else REQUEST
    name = {"request": REQUEST, "prompt": PROMPT}.get(split.group, split.group)
    _column(rows, name, "split.group")
    return name


def applicable_splits(rows: pd.DataFrame, split: SplitConfig) -> list[str]:
    """Return the ways of dividing rows that say something about them.

    Rows at random and whole requests always; whole prompts where those repeat, and another `split.group`;
    `by_time` where the rows tell when they were measured, `extrapolate` where there are several contexts, and
    `leave_one_out:<column>` where there are several engines, quantizations or models.
    """
    group = group_of(rows, split)
    names = [str(SplitName.random), str(SplitName.by_request)]
    names += [str(SplitName.by_prompt)] if group == PROMPT or prompts_repeat(rows) else []
    names += [f"by_{group}"] if group not in (REQUEST, PROMPT) else []
    names += [str(SplitName.by_time)] if rows[TIME].nunique() > 1 else []
    if split.name is SplitName.extrapolate or rows[EXTRAPOLATED].nunique() > 2:
        names.append(str(SplitName.extrapolate))
    several = [name for name in LEFT_OUT if name in rows and rows[name].nunique() > 1]
    if split.name is SplitName.leave_one_out and split.column not in several:
        several.append(str(split.column))
    return [*names, *(f"{SplitName.leave_one_out}:{name}" for name in several)]


def split_rows(rows: pd.DataFrame, config: SplitConfig) -> tuple[Positions, Positions]:
    """Divide rows.

    Parameters
    ----------
    rows : DataFrame
        Counted token rows.
    config : SplitConfig
        `random` draws rows; `by_request` and `by_prompt` draw whole requests or prompts; `extrapolate` tests
        on the rows with the largest `split.column`; `by_time` on the requests measured last, of each prompt
        where prompts repeat, so that the workload is the same on both sides; `leave_one_out` tests on the
        rows whose `split.column` is `split.held_out`. Requests are on one side, but for `random`: of those
        that grow across the border of `extrapolate`, every second one is tested, and the others fitted.

    Returns
    -------
    train, test : ndarray of int64
        Positions in `rows`, in order.

    Raises
    ------
    ConfigError
        Where the share is no share, the column is none, or too few rows, requests or prompts are left.
    """
    n_test = count_test_units(Counts.of(rows), config)
    match config.name:
        case SplitName.random:
            train, test = train_test_split(np.arange(len(rows)), test_size=n_test, random_state=config.seed)
        case SplitName.by_request | SplitName.by_prompt:
            groups = rows[UNITS[config.name][1]].to_numpy()
            draw = GroupShuffleSplit(n_splits=1, test_size=n_test, random_state=config.seed)
            train, test = next(draw.split(rows, groups=groups))
        case SplitName.extrapolate:
            train, test = _beyond(rows, config)
        case SplitName.by_time:
            train, test = _last(rows, config)
        case SplitName.leave_one_out:
            train, test = _without(rows, config)
    return np.sort(train), np.sort(test)


def count_test_units(counts: Counts, config: SplitConfig) -> int:
    """Return how many rows, requests or prompts are held out; asked before measuring too.

    Raises
    ------
    ConfigError
        Where the share leaves too few.
    """
    check_split(config)
    units, n_units, fewest_train, fewest_test = "rows", counts.rows, MIN_TRAIN_ROWS, MIN_TEST_ROWS
    if config.name in UNITS:
        units, fewest_train, fewest_test = UNITS[config.name][0], 1, 1
        n_units = counts.requests if units == "requests" else counts.prompts
    n_test = int(np.ceil(config.test_size * n_units))
    if n_test < fewest_test or n_units - n_test < fewest_train:
        raise ConfigError(
            f"split={config.name}: {n_units} {units} are too few for split.test_size={config.test_size}; "
            "measure more (prompt_set, prompt_set.max_new_tokens, collect.repetitions) or change the share."
        )
    return n_test


def check_split(config: SplitConfig) -> None:
    """Refuse a share that is none, a seed that scikit-learn does not take, and settings that nothing reads.

    Raises
    ------
    ConfigError
    """
    if not 0 < config.test_size < 1:
        raise ConfigError(f"split.test_size={config.test_size}: use a share between 0 and 1, such as 0.2.")
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"split.seed={config.seed}: use a whole number from 0 to {2**32 - 1}.")
    if config.name is SplitName.leave_one_out and config.column is None:
        raise ConfigError("split.column: name the column whose values are left out, such as engine.")


def across_border(rows: pd.DataFrame, config: SplitConfig) -> tuple[Positions, Positions]:
    """Return the rows below and above the border of `extrapolate`, whatever request they are of.

    Above it are at most the share of the rows, since equal values stay together.

    Raises
    ------
    ConfigError
        Where the column is none, no number, or too few rows lie on one side.
    """
    name = config.column or EXTRAPOLATED
    values = _column(rows, name)
    if not pd.api.types.is_numeric_dtype(values):
        raise ConfigError(f"split.column={name}: it is no number, so nothing lies beyond it.")
    border = values.quantile(1 - config.test_size, interpolation="lower")
    is_beyond = (values > border).to_numpy()
    _check_beyond(int(is_beyond.sum()), int((~is_beyond).sum()), name, float(border))
    return np.flatnonzero(~is_beyond), np.flatnonzero(is_beyond)


def _check_beyond(n_test: int, n_train: int, name: str, border: float) -> None:
    if n_test < MIN_TEST_ROWS or n_train < MIN_TRAIN_ROWS:
        raise ConfigError(
            f"split=extrapolate: too few rows have {name} above {border:g}; measure more lengths, or change "
            "split.test_size or split.column."
        )


def _beyond(rows: pd.DataFrame, config: SplitConfig) -> tuple[Positions, Positions]:
    """Test on the rows beyond the border, whose requests have none on the other side."""
    near, far = across_border(rows, config)
    requests = rows[REQUEST].to_numpy()
    across = np.intersect1d(requests[near], requests[far])
    train = near[~np.isin(requests[near], across[::2])]
    test = far[~np.isin(requests[far], across[1::2])]
    name = config.column or EXTRAPOLATED
    _check_beyond(len(test), len(train), name, float(rows[name].iloc[near].max()))
    return train, test


def _last(rows: pd.DataFrame, config: SplitConfig) -> tuple[Positions, Positions]:
    """Test on the requests that were measured last: of each prompt, where prompts repeat."""
    if rows[TIME].nunique() < 2:
        raise ConfigError("split=by_time: the rows do not tell when they were measured.")
    first = rows.groupby(REQUEST)[["session_id", TIME]].min()
    prompt = rows.groupby(REQUEST)[PROMPT].first() if prompts_repeat(rows) else pd.Series(0, first.index)
    order = first.assign(prompt=prompt).sort_values(["session_id", TIME], kind="stable")["prompt"]
    left = order.groupby(order).cumcount(ascending=False)
    of_prompt = order.groupby(order).transform("size")
    is_last = (left < np.ceil(config.test_size * of_prompt)) & (of_prompt > 1)
    is_test = rows[REQUEST].isin(order.index[is_last]).to_numpy()
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _without(rows: pd.DataFrame, config: SplitConfig) -> tuple[Positions, Positions]:
    values = _column(rows, str(config.column)).astype(str)
    held_out = np.asarray(values == config.held_out)
    found = sorted(values.unique())
    if config.held_out is None or not held_out.any():
        said = "name the value that is left out" if config.held_out is None else "no row has it"
        raise ConfigError(
            f"split.held_out={config.held_out or 'null'}: {said}; {config.column} is {', '.join(found)}."
        )
    if (~held_out).sum() < MIN_TRAIN_ROWS:
        raise ConfigError(
            f"split.held_out={config.held_out}: {config.column} is that in all {len(rows)} rows, so none are "
            "left to fit on; measure others beside it (collect.interleave), or name several datasets."
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _column(rows: pd.DataFrame, name: str, key: str = "split.column") -> pd.Series:
    if name not in rows:
        raise ConfigError(
            f"{key}={name}: the rows have no such column{did_you_mean(name, rows.columns)} They have "
            f"{', '.join(rows.columns)}."
        )
    return rows[name]
