"""Errors on folds of the training rows: what settings are chosen by, so that the test rows stay untouched."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.predict.evaluate import error_block
from llmlat.predict.fit import feature_columns, fit, predict
from llmlat.predict.split import MIN_TRAIN_ROWS, Positions
from llmlat.records import TARGET

N_FOLDS = 5
GROUP = "request_id"


def validate(train: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> dict[str, Any]:
    """Cross-validate a regressor on the training rows alone.

    Every training row is predicted once, by a fit on the other folds, and all those predictions are judged
    together. The folds keep apart what the split keeps apart: whole requests, or rows.

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
    dict
        `validation`, an error block with `n_folds` and `grouped_by` (`request_id`, or None for single rows),
        and `validation_reason`, None. Where there are too few rows or requests, or the regressor fails on a
        fold, `validation` is None and `validation_reason` says why.
    """
    try:
        folds = list(_folds(train, split))
        seen = train[[*feature_columns(pipeline), TARGET]]
        predicted = np.empty(len(train))
        for rest, fold in folds:
            predicted[fold] = predict(fit(pipeline, seen.iloc[rest]), seen.iloc[fold])
    except ConfigError as error:
        return {"validation": None, "validation_reason": str(error)}
    errors = error_block(train[TARGET].to_numpy(), predicted)
    grouped_by = GROUP if split.name is SplitName.by_request else None
    return {
        "validation": {**errors, "n_folds": len(folds), "grouped_by": grouped_by},
        "validation_reason": None,
    }


def _folds(train: pd.DataFrame, split: SplitConfig) -> Iterator[tuple[Positions, Positions]]:
    """Yield the positions of each fold's rest and of the fold; fewer folds where there is little to divide.

    Raises
    ------
    ConfigError
        Where not even two folds leave enough rows to fit on.
    """
    by_request = split.name is SplitName.by_request
    units = train[GROUP].nunique() if by_request else len(train)
    n_folds = min(N_FOLDS, units)
    if n_folds < 2:
        raise ConfigError(_too_few(units, by_request))
    if by_request:
        drawn = GroupKFold(n_folds).split(train, groups=train[GROUP])
    else:
        drawn = KFold(n_folds, shuffle=True, random_state=split.seed).split(train)
    for rest, fold in drawn:
        if len(rest) < MIN_TRAIN_ROWS:
            raise ConfigError(_too_few(units, by_request))
        yield rest, fold


def _too_few(units: int, by_request: bool) -> str:
    return f"{units} training {'requests' if by_request else 'rows'} are too few to hold folds out of"
