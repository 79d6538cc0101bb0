"""The same fit tested in every way that the rows allow: random beside grouped, and the gap between them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.predict.evaluate import NO_ROWS, baselines, error_block
from llmlat.predict.fit import fit, predict
from llmlat.predict.split import EXTRAPOLATED, Positions, kept_apart, split_rows
from llmlat.records import PROMPT, REQUEST, TARGET, TIME

LEFT_OUT = ("engine", "quantization", "model")
"""Whose values are left out one at a time, where there are several."""

Test = Callable[[pd.DataFrame, Pipeline, SplitConfig], dict[str, Any]]


def splits_beside(
    rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig, train: pd.DataFrame, predictions: pd.DataFrame
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
    train, predictions : DataFrame
        Of the headline fit, which is not made again.

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
        elif beside.name is split.name:
            found[name] = _tested(rows, train, predictions)
        else:
            found[name] = _under(rows, pipeline, beside)
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
    random_ms, grouped_ms = (
        (splits.get(name) or {}).get("mae_ms") for name in ("random", grouped)
    )
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
    column = split.column if split.name is SplitName.extrapolate else EXTRAPOLATED
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
            train, test = parts(rows, split_rows(rows, one))
            predicted = predict(fit(pipeline, train, kept_apart(one)), test)
        except ConfigError as error:
            return {**error_block(NO_ROWS, NO_ROWS), "n_train": None, "n_test": None, "reason": str(error)}
        tested.append(test.assign(predicted_ms=predicted))
        by_value[value] = error_block(test[TARGET].to_numpy(), predicted)
    together = pd.concat(tested)
    return {**_errors(together), "n_train": None, "n_test": len(together), "by_value": by_value}


def _under(rows: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> dict[str, Any]:
    try:
        train, test = parts(rows, split_rows(rows, split))
        predicted = predict(fit(pipeline, train, kept_apart(split)), test)
    except ConfigError as error:
        return {**error_block(NO_ROWS, NO_ROWS), "n_train": None, "n_test": None, "reason": str(error)}
    return _tested(rows, train, test.assign(predicted_ms=predicted))


def _tested(rows: pd.DataFrame, train: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    counts = {"n_train": len(train), "n_test": len(predictions)}
    return {**_errors(predictions), **counts, "baselines": baselines(rows, train, predictions)}


def _errors(predictions: pd.DataFrame) -> dict[str, Any]:
    return error_block(predictions[TARGET].to_numpy(), predictions["predicted_ms"].to_numpy())


def parts(rows: pd.DataFrame, positions: tuple[Positions, Positions]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows at the positions of `split_rows`."""
    train, test = positions
    return rows.iloc[train], rows.iloc[test]
