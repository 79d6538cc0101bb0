"""The same fit tested in every way that the rows allow: random beside grouped, and the gap between them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.evaluate import NO_ROWS, baselines, error_block
from llmlat.fit.fitting import fit, predict
from llmlat.fit.split import EXTRAPOLATED, Positions, kept_apart, split_rows
from llmlat.records import PROMPT, REQUEST, TARGET, TIME

LEFT_OUT = ("engine", "quantization", "model")
"""Whose values are left out one at a time, where there are several."""


@dataclass(frozen=True)
class Tested:
    """A fit, and the rows that it was fitted and tested on.

    Attributes
    ----------
    fitted : Pipeline
    train : DataFrame
    predictions : DataFrame
        The test rows, with `predicted_ms`.
    """

    fitted: Pipeline
    train: pd.DataFrame
    predictions: pd.DataFrame


def fit_and_test(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> Tested:
    """Divide rows, fit on one part and predict the other.

    Raises
    ------
    ConfigError
        Where the rows cannot be divided so, or the regressor fails on them.
    """
    train, test = parts(rows, split_rows(rows, split))
    fitted = fit(pipeline, train, kept_apart(split))
    return Tested(fitted, train, test.assign(predicted_ms=predict(fitted, test)))


def splits_beside(
    rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig, known: Mapping[SplitName, Tested]
) -> dict[str, Any]:
    """Test a regressor under each split that says something about these rows.

    Parameters
    ----------
    rows : DataFrame
        Counted rows, one a step.
    pipeline : Pipeline
        Unfitted.
    split : SplitConfig
        The headline's, whose share and seed the others take.
    known : mapping of SplitName to Tested
        Fits that have been made already, the headline's among them.

    Returns
    -------
    dict
        An error block for each split, with `n_train`, `n_test` and `baselines`; without errors and with a
        `reason` where the rows do not allow it.
    """
    found = {}
    for beside in _worth_trying(rows, split):
        name = str(beside.name)
        if beside.name is SplitName.leave_one_out:
            found[f"{name}:{beside.column}"] = each_left_out(rows, pipeline, beside)
        else:
            found[name] = _under(rows, pipeline, beside, known.get(beside.name))
    return found


def leakage_gap(splits: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how much larger the error is on requests never seen than on rows at random.

    Parameters
    ----------
    splits : mapping
        From `splits_beside`.

    Returns
    -------
    dict or None
        `random` and `grouped` (the split that it is compared with: whole prompts where prompts were
        repeated, otherwise whole requests), `random_mae_ms`, `grouped_mae_ms`, and `mae_ratio`, grouped over
        random: 1 where testing on rows at random flatters nothing. None where one of the two is not known.
    """
    grouped = "by_prompt" if (splits.get("by_prompt") or {}).get("mae_ms") is not None else "by_request"
    random_ms, grouped_ms = ((splits.get(name) or {}).get("mae_ms") for name in ("random", grouped))
    if not random_ms or grouped_ms is None:
        return None
    return {
        "grouped": grouped,
        "random_mae_ms": random_ms,
        "grouped_mae_ms": grouped_ms,
        "mae_ratio": grouped_ms / random_ms,
    }


def _worth_trying(rows: pd.DataFrame, split: SplitConfig) -> list[SplitConfig]:
    """Return random and by request always; the others where they differ from these, and can be made."""
    plain = replace(split, column=None, held_out=None)
    tried = [SplitName.random, SplitName.by_request]
    if rows[PROMPT].nunique() < rows[REQUEST].nunique():
        tried.append(SplitName.by_prompt)
    if rows[TIME].nunique() > 1:
        tried.append(SplitName.by_time)
    beside = [split if name is split.name else replace(plain, name=name) for name in tried]
    column = (split.column if split.name is SplitName.extrapolate else None) or EXTRAPOLATED
    if column in rows and rows[column].nunique() > 2:
        beside.append(
            split if split.name is SplitName.extrapolate else replace(plain, name=SplitName.extrapolate)
        )
    several = [name for name in LEFT_OUT if name in rows and rows[name].nunique() > 1]
    if split.name is SplitName.leave_one_out and split.column not in several:
        several.append(str(split.column))
    return [*beside, *(replace(plain, name=SplitName.leave_one_out, column=name) for name in several)]


def each_left_out(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> dict[str, Any]:
    """Leave each value of a column out in turn, and judge all predictions together."""
    values = sorted(rows[str(split.column)].astype(str).unique())
    tested, by_value = [], {}
    for value in values:
        one = replace(split, held_out=value)
        try:
            predictions = fit_and_test(rows, pipeline, one).predictions
        except ConfigError as error:
            return {**error_block(NO_ROWS, NO_ROWS), "n_train": None, "n_test": None, "reason": str(error)}
        tested.append(predictions)
        by_value[value] = errors_of(predictions)
    together = pd.concat(tested)
    return {**errors_of(together), "n_train": None, "n_test": len(together), "by_value": by_value}


def _under(
    rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig, known: Tested | None
) -> dict[str, Any]:
    try:
        tested = known or fit_and_test(rows, pipeline, split)
    except ConfigError as error:
        return {**error_block(NO_ROWS, NO_ROWS), "n_train": None, "n_test": None, "reason": str(error)}
    counts = {"n_train": len(tested.train), "n_test": len(tested.predictions)}
    return {
        **errors_of(tested.predictions),
        **counts,
        "baselines": baselines(rows, tested.train, tested.predictions),
    }


def errors_of(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the error block of test rows with `predicted_ms`."""
    return error_block(predictions[TARGET].to_numpy(), predictions["predicted_ms"].to_numpy())


def parts(rows: pd.DataFrame, positions: tuple[Positions, Positions]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows at the positions of `split_rows`."""
    train, test = positions
    return rows.iloc[train], rows.iloc[test]
