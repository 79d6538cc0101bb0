"""The regressor tested otherwise than in the headline: under other splits, and on requests held out whole."""

from dataclasses import replace
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.analysis.inputs import shuffled
from llmlat.fit.beside import Tested, fit_and_test, leakage_gap, splits_beside
from llmlat.fit.fitting import features_of
from llmlat.fit.split import UNITS
from llmlat.fit.trees import boosted_trees
from llmlat.fit.uncertainty.calibration import Calibration, calibrate_fit, coverage
from llmlat.records import TARGET


def tested_otherwise(
    counted: pd.DataFrame,
    pipeline: Pipeline,
    split: SplitConfig,
    headline: Tested,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """Return what other tests than the headline's say.

    Parameters
    ----------
    counted : DataFrame
        Counted rows, one a step.
    pipeline : Pipeline
        Unfitted.
    split : SplitConfig
        The headline's.
    headline : Tested
    calibration : Calibration or None
        Of the headline's training rows.

    Returns
    -------
    dict
        `splits` and `leakage_gap`; and what can only be told on whole requests, or prompts, that a fit and
        its calibration have not seen, None each where none can be held out: `coverage` of 90 % intervals,
        `importance` of the inputs, and `nonlinear_check`, what boosted trees miss.
    """
    known = {split.name: headline}
    if split.name in UNITS:
        told = _on_held_out(headline, calibration)
    elif (tested := _by_request(counted, pipeline, split)) is not None:
        known[SplitName.by_request] = tested
        told = _on_held_out(tested, calibrate_fit(tested.train, pipeline, split)[0])
    else:
        told = {"coverage": None, "importance": None, "nonlinear_check": None}
    splits = splits_beside(counted, pipeline, split, known)
    return {"splits": splits, "leakage_gap": leakage_gap(splits), **told}


def _by_request(counted: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> Tested | None:
    try:
        return fit_and_test(counted, pipeline, replace(split, name=SplitName.by_request, column=None))
    except ConfigError:
        return None


def _on_held_out(tested: Tested, bands: Calibration | None) -> dict[str, Any]:
    train, test = tested.train, tested.predictions
    predicted_ms, table = test["predicted_ms"].to_numpy(), features_of(tested.fitted)
    return {
        "coverage": coverage(test, predicted_ms, bands) if bands else None,
        "importance": shuffled(tested.fitted, test),
        "nonlinear_check": boosted_trees(
            table.transform(train), table.transform(test), train[TARGET].to_numpy(), test[TARGET].to_numpy()
        ),
    }
