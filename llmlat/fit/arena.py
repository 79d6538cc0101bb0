"""The arena: every regressor on the same folds, with what it costs to fit and to ask."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, one_line
from llmlat.fit.analysis.inputs import average_effects
from llmlat.fit.evaluate import error_block
from llmlat.fit.fitting import features_of, fit, predict
from llmlat.fit.split import EXTRAPOLATED, group_of, prompts_repeat, split_rows
from llmlat.records import TARGET

N_ASKED_ONE = 20


@dataclass(frozen=True)
class Contestant:
    """A regressor in the arena.

    Attributes
    ----------
    name : str
    pipeline : Pipeline or str
        Unfitted; or why it cannot take part.
    of : str
        Whose settings these are, where they are a peer's.
    """

    name: str
    pipeline: Pipeline | str
    of: str = ""


def compete(
    rows: pd.DataFrame, contestants: Sequence[Contestant], split: SplitConfig
) -> list[dict[str, Any]]:
    """Fit and test every contestant on the same divisions of the rows.

    Parameters
    ----------
    rows : DataFrame
        Counted rows, one a step.
    contestants : sequence of Contestant
    split : SplitConfig
        Whose share and seed the divisions take.

    Returns
    -------
    list of dict
        For each contestant `name`, `of`, `features`, `splits` (an error block each, with `n_train` and
        `fit_s`), `predict_one_us` and `predict_us_per_row` (a single row, and one of many), and
        `average_effects`; ordered by the error on requests never seen. Where it fails, `reason` says why.
    """
    divisions = _divisions(rows, split)
    found = []
    for contestant in tqdm(contestants, desc="arena", unit="regressor", disable=None, dynamic_ncols=True):
        found.append(_compete(contestant, divisions))
    return sorted(found, key=_grouped_error)


def _divisions(rows: pd.DataFrame, split: SplitConfig) -> dict[str, tuple[pd.DataFrame, pd.DataFrame, str]]:
    """Return training and test rows of each division that the rows allow, and the column kept apart."""
    plain = replace(split, column=None, held_out=None)
    grouped = SplitName.by_prompt if prompts_repeat(rows) else SplitName.by_request
    beyond = replace(
        plain, name=SplitName.extrapolate, column=EXTRAPOLATED, test_size=max(0.4, split.test_size)
    )
    tried = [replace(plain, name=SplitName.random), replace(plain, name=grouped), beyond]
    divisions = {}
    for one in tried:
        try:
            train, test = split_rows(rows, one)
            divisions[str(one.name)] = (rows.iloc[train], rows.iloc[test], group_of(rows, one))
        except ConfigError:
            continue
    if not divisions:
        raise ConfigError("arena: the rows cannot be divided in any way; measure more.")
    return divisions


def _compete(
    contestant: Contestant, divisions: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, str]]
) -> dict[str, Any]:
    told: dict[str, Any] = {"name": contestant.name, "of": contestant.of}
    if isinstance(contestant.pipeline, str):
        return {**told, "splits": {}, "reason": contestant.pipeline}
    splits, fitted, train, test = {}, contestant.pipeline, pd.DataFrame(), pd.DataFrame()
    try:
        for name, (train, test, group) in divisions.items():
            began = time.perf_counter()
            fitted = fit(contestant.pipeline, train, group)
            seconds = time.perf_counter() - began
            errors = error_block(test[TARGET].to_numpy(), predict(fitted, test))
            splits[name] = {**errors, "n_train": len(train), "fit_s": seconds}
        return {
            **told,
            "features": features_of(fitted).feature_names_out_,
            "splits": splits,
            **_costs(fitted, test),
            "average_effects": average_effects(fitted, train),
            "reason": None,
        }
    except Exception as error:  # whatever a contestant raises, the others go on
        return {**told, "splits": splits, "reason": one_line(error)}


def _costs(fitted: Pipeline, test: pd.DataFrame) -> dict[str, float]:
    def seconds(rows: pd.DataFrame) -> float:
        began = time.perf_counter()
        predict(fitted, rows)
        return time.perf_counter() - began

    one = float(np.median([seconds(test.iloc[:1]) for _ in range(N_ASKED_ONE)]))
    return {"predict_one_us": 1e6 * one, "predict_us_per_row": 1e6 * seconds(test) / len(test)}


def _grouped_error(told: Mapping[str, Any]) -> float:
    grouped = [told["splits"].get(name) for name in ("by_prompt", "by_request", "random")]
    return next((float(block["mae_ms"]) for block in grouped if block and not told["reason"]), np.inf)
