"""Errors on folds of the training rows: what settings are chosen by, so that the test rows stay untouched."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig
from llmlat.errors import ConfigError
from llmlat.fit.evaluate import Milliseconds, error_block
from llmlat.fit.fitting import fit, input_columns, predict
from llmlat.fit.split import MIN_TRAIN_ROWS, Positions, is_grouped, kept_apart
from llmlat.records import PROMPT, REQUEST, TARGET

N_FOLDS = 5
WORDS = {None: "rows", REQUEST: "requests", PROMPT: "prompts"}


@dataclass(frozen=True)
class OutOfFold:
    """Training rows, each predicted once, by a fit on the other folds.

    Attributes
    ----------
    predicted_ms : ndarray of float64, shape (n_rows,)
    n_folds : int
    group : str or None
        The column whose values the folds keep apart; None where they are of single rows.
    """

    predicted_ms: Milliseconds
    n_folds: int
    group: str | None


def out_of_fold(train: pd.DataFrame, pipeline: Pipeline, group: str | None, seed: int = 0) -> OutOfFold:
    """Predict every training row by a fit on the other folds.

    Parameters
    ----------
    train : DataFrame
        Training rows; no test row may be among them.
    pipeline : Pipeline
        Unfitted.
    group : str or None
        The column whose values stay together; None draws single rows.
    seed : int
        Shuffles single rows into folds.

    Raises
    ------
    ConfigError
        Where there are too few rows or groups, or the regressor fails on a fold.
    """
    seen = train[list(dict.fromkeys([*input_columns(pipeline), TARGET, REQUEST, PROMPT]))]
    predicted, n_folds = np.empty(len(train)), 0
    for rest, fold in _folds(train, group, seed):
        part = seen.iloc[rest]
        predicted[fold] = predict(fit(pipeline, part, group or REQUEST), seen.iloc[fold])
        n_folds += 1
    return OutOfFold(predicted, n_folds, group)


def validation_of(train: pd.DataFrame, found: OutOfFold | str) -> dict[str, Any]:
    """Return the errors of out-of-fold predictions, all judged together.

    Parameters
    ----------
    train : DataFrame
        The training rows of the headline fit.
    found : OutOfFold or str
        Their predictions, or why there are none.

    Returns
    -------
    dict
        `validation`, an error block with `n_folds` and `grouped_by` (a column, or None for single rows), and
        `validation_reason`, None. Where there are no predictions, `validation` is None and
        `validation_reason` says why.
    """
    if isinstance(found, str):
        return {"validation": None, "validation_reason": found}
    errors = error_block(train[TARGET].to_numpy(), found.predicted_ms)
    return {
        "validation": {**errors, "n_folds": found.n_folds, "grouped_by": found.group},
        "validation_reason": None,
    }


def validate(train: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> OutOfFold | str:
    """Predict the training rows by folds that keep apart what the split keeps apart.

    Parameters
    ----------
    train : DataFrame
        The training rows of the headline fit; no test row may be among them.
    pipeline : Pipeline
        Unfitted.
    split : SplitConfig
        How the training rows were divided from the test rows; its seed shuffles rows into folds.

    Returns
    -------
    OutOfFold or str
        Why there are none, where there are too few rows or groups, or the regressor fails on a fold.
    """
    try:
        return out_of_fold(train, pipeline, kept_apart(split) if is_grouped(split) else None, split.seed)
    except ConfigError as error:
        return str(error)


def _folds(train: pd.DataFrame, group: str | None, seed: int) -> Iterator[tuple[Positions, Positions]]:
    """Yield the positions of each fold's rest and of the fold; fewer folds where there is little to divide.

    Raises
    ------
    ConfigError
        Where not even two folds leave enough rows to fit on.
    """
    units = len(train) if group is None else train[group].nunique()
    n_folds = min(N_FOLDS, units)
    if n_folds < 2:
        raise ConfigError(_too_few(units, group))
    if group is None:
        drawn = KFold(n_folds, shuffle=True, random_state=seed).split(train)
    else:
        drawn = GroupKFold(n_folds).split(train, groups=train[group])
    for rest, fold in drawn:
        if len(rest) < MIN_TRAIN_ROWS:
            raise ConfigError(_too_few(units, group))
        yield rest, fold


def _too_few(units: int, group: str | None) -> str:
    return f"{units} training {WORDS.get(group, group)} are too few to hold folds out of"
