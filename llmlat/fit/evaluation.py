"""One evaluation: the rows are predicted once a way of dividing them, by fits that have not seen them.

The headline holds out the share that the split says, and is fitted on the rest: the training rows. All else
is told by the training rows alone, so that no setting is ever chosen by a test row. They are predicted out of
fold: by rows at random, by requests, by prompts where those repeat; by fits on the shorter contexts for the
longer ones, and by fits on the first requests for the last. Validation, bands and their coverage, the leakage
gap, the splits beside each other and what inputs are worth are read from these predictions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.evaluate import Milliseconds
from llmlat.fit.fitting import fit, predict
from llmlat.fit.regressors.folds import grouped_folds
from llmlat.fit.split import (
    EXTRAPOLATED,
    MIN_TRAIN_ROWS,
    Positions,
    across_border,
    applicable_splits,
    group_of,
    split_rows,
)
from llmlat.records import PROMPT, REQUEST

N_FOLDS = 5
BEYOND = 0.4
"""The share of the training rows, those at the longest contexts, that are predicted from the shorter."""

WORDS = {None: "rows", REQUEST: "requests", PROMPT: "prompts"}
FOLDED = {"random": None, "by_request": REQUEST, "by_prompt": PROMPT}
"""Ways of dividing into folds, and what these keep whole."""


@dataclass(frozen=True)
class HeldOut:
    """A part of some rows, and the fit that predicts it without having seen it.

    Attributes
    ----------
    fitted : Pipeline
    train, test : ndarray of int64
        Positions in the rows.
    predicted_ms : ndarray of float64
        Of the rows at `test`.
    """

    fitted: Pipeline
    train: Positions
    test: Positions
    predicted_ms: Milliseconds


@dataclass(frozen=True)
class OutOfFold:
    """Rows under one way of dividing, none predicted by a fit that has seen it.

    Attributes
    ----------
    rows : DataFrame
    group : str or None
        The column whose values are never on both sides; None where single rows are drawn.
    parts : tuple of HeldOut
    """

    rows: pd.DataFrame
    group: str | None
    parts: tuple[HeldOut, ...]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The rows that were predicted, in their order, with `predicted_ms`."""
        test = np.concatenate([part.test for part in self.parts])
        predicted_ms = np.concatenate([part.predicted_ms for part in self.parts])
        order = np.argsort(test, kind="stable")
        return self.rows.iloc[test[order]].assign(predicted_ms=predicted_ms[order])

    def each(self) -> Iterator[tuple[Pipeline, pd.DataFrame, pd.DataFrame]]:
        """Yield for each part its fit, the rows of the fit, and those held out, with `predicted_ms`."""
        for part in self.parts:
            test = self.rows.iloc[part.test].assign(predicted_ms=part.predicted_ms)
            yield part.fitted, self.rows.iloc[part.train], test


@dataclass(frozen=True)
class Evaluation:
    """A regressor fitted on the training rows, and predictions under every way that the rows allow.

    Attributes
    ----------
    rows : DataFrame
        Counted rows, one a step.
    group : str
        What is alike: the column whose values folds, bands and choices keep apart.
    headline : HeldOut
        As the split says; its positions are in `rows`.
    ways : dict of str to OutOfFold or str
        By the names of `applicable_splits`; or why the rows do not allow it.
    """

    rows: pd.DataFrame
    group: str
    headline: HeldOut
    ways: dict[str, OutOfFold | str]

    @cached_property
    def train(self) -> pd.DataFrame:
        """The training rows."""
        return self.rows.iloc[self.headline.train]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The test rows, with `predicted_ms`."""
        return self.rows.iloc[self.headline.test].assign(predicted_ms=self.headline.predicted_ms)

    @property
    def by_group(self) -> OutOfFold | str:
        """The training rows out of fold, whole groups held out."""
        return self.ways[way_of(self.group)]

    @property
    def beyond(self) -> OutOfFold | None:
        """Training rows at the longer contexts, by fits on the shorter; None where that cannot be made."""
        found = self.ways.get("extrapolate")
        return found if isinstance(found, OutOfFold) and len(found.rows) < len(self.rows) else None


def evaluate(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> Evaluation:
    """Fit the headline, and predict the rows once under every way of dividing them that they allow.

    Parameters
    ----------
    rows : DataFrame
        Counted rows, one a step.
    pipeline : Pipeline
        Unfitted.
    split : SplitConfig
        The headline's.

    Raises
    ------
    ConfigError
        Where the headline cannot be made.
    """
    group = group_of(rows, split)
    headline = held_out(rows, pipeline, split_rows(rows, split), group)
    train = rows.iloc[headline.train]
    ways: dict[str, OutOfFold | str] = {}
    for name in applicable_splits(rows, split):
        try:
            if name == split.name and name in (SplitName.by_time, SplitName.extrapolate):
                ways[name] = OutOfFold(rows, group, (headline,))
            else:
                ways[name] = _way(name, rows, train, pipeline, split, group)
        except ConfigError as error:
            ways[name] = str(error)
    return Evaluation(rows, group, headline, ways)


def way_of(group: str) -> str:
    """Return the name of the way of dividing that keeps a column's values whole."""
    return next((name for name, column in FOLDED.items() if column == group), f"by_{group}")


def held_out(
    rows: pd.DataFrame, pipeline: Pipeline, divided: tuple[Positions, Positions], group: str
) -> HeldOut:
    """Fit on one part of the rows and predict the other.

    Raises
    ------
    ConfigError
        Where the regressor fails on them.
    """
    train, test = divided
    fitted = fit(pipeline, rows.iloc[train], group)
    return HeldOut(fitted, train, test, predict(fitted, rows.iloc[test]))


def out_of_fold(
    rows: pd.DataFrame, pipeline: Pipeline, held_whole: str | None, group: str = REQUEST, seed: int = 0
) -> OutOfFold:
    """Predict every row by a fit on the other folds; fewer than five folds where there is little to divide.

    Parameters
    ----------
    rows : DataFrame
    pipeline : Pipeline
        Unfitted.
    held_whole : str or None
        The column whose values stay in one fold; None draws single rows.
    group : str
        What a regressor that validates within its own fit keeps apart.
    seed : int
        Shuffles single rows into folds.

    Raises
    ------
    ConfigError
        Where not even two folds leave enough rows to fit on, or the regressor fails on one.
    """
    units = len(rows) if held_whole is None else rows[held_whole].nunique()
    too_few = f"{units} training {WORDS.get(held_whole, held_whole)} are too few to hold folds out of"
    if units < 2:
        raise ConfigError(too_few)
    groups = None if held_whole is None else rows[held_whole].to_numpy()
    folds = grouped_folds(len(rows), groups, N_FOLDS, seed)
    if min(len(rest) for rest, _ in folds) < MIN_TRAIN_ROWS:
        raise ConfigError(too_few)
    parts = tuple(held_out(rows, pipeline, fold, held_whole or group) for fold in folds)
    return OutOfFold(rows, held_whole, parts)


def refit(keep: Callable[[pd.DataFrame], pd.DataFrame], of: Evaluation, pipeline: Pipeline) -> HeldOut | None:
    """Fit on some of the training rows and predict the same of the test rows.

    Parameters
    ----------
    keep : callable
        Maps rows to those that stay.
    of : Evaluation
    pipeline : Pipeline
        Unfitted.

    Returns
    -------
    HeldOut or None
        None where too few rows are left.
    """
    stays = np.zeros(len(of.rows), dtype=bool)
    stays[of.rows.index.get_indexer(keep(of.rows).index)] = True
    train, test = of.headline.train, of.headline.test
    kept = train[stays[train]], test[stays[test]]
    if len(kept[0]) < MIN_TRAIN_ROWS or not len(kept[1]):
        return None
    return held_out(of.rows, pipeline, kept, of.group)


def _way(
    name: str, rows: pd.DataFrame, train: pd.DataFrame, pipeline: Pipeline, split: SplitConfig, group: str
) -> OutOfFold:
    if name.startswith("leave_one_out:"):
        return _each_left_out(rows, pipeline, name.partition(":")[2], group)
    if name == SplitName.by_time:
        divided = split_rows(train, SplitConfig(SplitName.by_time, split.test_size))
        return OutOfFold(train, group, (held_out(train, pipeline, divided, group),))
    if name == SplitName.extrapolate:
        return beyond(train, pipeline, group)
    return out_of_fold(train, pipeline, FOLDED.get(name, group), group, split.seed)


def beyond(train: pd.DataFrame, pipeline: Pipeline, group: str) -> OutOfFold:
    """Predict the rows at the longest contexts by fits on the shorter ones of other groups.

    A request that grows across the border has rows on either side, and a fit that knows its beginning misses
    less of its end than of a new request's. So the half of those that is predicted is held out whole.

    Raises
    ------
    ConfigError
        Where too few rows are longer, or shorter.
    """
    near, far = across_border(train, SplitConfig(SplitName.extrapolate, BEYOND, column=EXTRAPOLATED))
    names = train[group].to_numpy()
    across = np.intersect1d(names[near], names[far])
    is_second_half = np.isin(names[far], across[1::2])
    parts = []
    for asked in (far[~is_second_half], far[is_second_half]):
        if len(asked):
            others = near[~np.isin(names[near], names[asked])]
            parts.append(held_out(train, pipeline, (others, asked), group))
    return OutOfFold(train, group, tuple(parts))


def _each_left_out(rows: pd.DataFrame, pipeline: Pipeline, column: str, group: str) -> OutOfFold:
    values = rows[column].astype(str)
    parts = []
    for value in sorted(values.unique()):
        one = SplitConfig(SplitName.leave_one_out, column=column, held_out=value)
        parts.append(held_out(rows, pipeline, split_rows(rows, one), group))
    return OutOfFold(rows, column, tuple(parts))
