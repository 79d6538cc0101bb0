"""Nothing of the test rows reaches the fit, the validation, the calibration or a choice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from llmlat.config import FeaturesConfig, SplitName
from llmlat.fit import fitting as fit_module
from llmlat.fit.evaluation import beyond, out_of_fold
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import Analysis

MakeRows = Callable[..., pd.DataFrame]
Analyse = Callable[..., Analysis]
LENGTHS = np.linspace(12, 640, 15).astype(int)
UNTOUCHED = (
    "average_effects",
    "calibration",
    "calibration_reason",
    "chosen",
    "coefficients",
    "floor_ms",
    "formula",
    "intercept_ms",
    "left_out",
    "n_train",
    "validation",
    "validation_reason",
)
"""What is told of the fit alone."""
RIDGE = {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}
AUTO = {
    "_target_": "llmlat.fit.regressors.AutoRegressor",
    "cv": 3,
    "candidates": {
        "ridge": RIDGE,
        "median": {"_target_": "sklearn.dummy.DummyRegressor", "strategy": "median"},
    },
}
PHYSICS = {"_target_": "llmlat.fit.regressors.PhysicsRegressor"}
SPLITS = {name: {} for name in SplitName if name is not SplitName.leave_one_out}


@pytest.fixture(scope="module")
def rows(make_rows: MakeRows) -> pd.DataFrame:
    return make_rows(LENGTHS, tokens=10, repetitions=2, noise_ms=1.0, prefill_ms=20.0)


def disturbed(rows: pd.DataFrame, test: pd.Index) -> pd.DataFrame:
    """Change every test row's latency, and what the step after it knows of it."""
    other = rows.copy()
    other.loc[test, "token_latency_ms"] *= np.random.default_rng(0).uniform(2, 50, len(test))
    return other


def of_the_fit(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of the fit; multiples of the noise floor aside, which is of all rows."""
    told = {name: metrics[name] for name in UNTOUCHED}
    validation = {k: v for k, v in metrics["validation"].items() if not k.endswith("_over_floor")}
    return {**told, "validation": validation}


@pytest.mark.parametrize("split", list(SPLITS))
@pytest.mark.parametrize("regressor", [RIDGE, AUTO, PHYSICS], ids=["ridge", "auto", "physics"])
def test_metrics_of_the_fit_do_not_move_with_the_test_rows(
    rows: pd.DataFrame, analysed: Analyse, split: SplitName, regressor: dict[str, Any]
) -> None:
    pipeline = build_pipeline(regressor, FeaturesConfig(["prompt_tokens", "context_length"]))
    before = analysed(rows, pipeline, split=split)
    after = analysed(disturbed(rows, before.predictions.index), pipeline, split=split)
    assert of_the_fit(after.metrics) == of_the_fit(before.metrics)
    assert after.calibration == before.calibration
    assert before.metrics["calibration"] is not None
    assert before.metrics["validation"] is not None
    np.testing.assert_array_equal(after.predictions["predicted_ms"], before.predictions["predicted_ms"])
    assert after.metrics["mae_ms"] > before.metrics["mae_ms"]
    assert after.metrics["intervals"]["coefficients"] == before.metrics["intervals"]["coefficients"]


@pytest.fixture
def fitted_on(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Spy on what every fit of a pipeline is given: the rows' numbers, which the index carries."""
    seen: list[set[int]] = []
    plain = fit_module._fit

    def spying(pipeline: Pipeline, rows: pd.DataFrame, group: str) -> Pipeline:
        seen.append(set(rows.index))
        return plain(pipeline, rows, group)

    monkeypatch.setattr(fit_module, "_fit", spying)
    return seen


@pytest.mark.parametrize("split", list(SPLITS))
def test_validating_and_calibrating_fit_on_training_rows_alone(
    rows: pd.DataFrame, analysed: Analyse, make_pipeline: Any, split: SplitName, fitted_on: list[set[int]]
) -> None:
    analysis, pipeline = analysed(rows, split=split), make_pipeline()
    train = set(analysis.train.index)
    fitted_on.clear()
    out_of_fold(analysis.train, pipeline, "prompt_id")
    beyond(analysis.train, pipeline, "prompt_id")
    assert len(fitted_on) >= 6, "five folds, and one for what lies beyond"
    assert all(some < train for some in fitted_on)


def test_the_intervals_are_tried_with_bands_of_the_other_groups(
    rows: pd.DataFrame, analysed: Analyse
) -> None:
    before = analysed(rows).metrics["coverage"]
    assert before["n_groups"] == len(LENGTHS), "every prompt of the training rows"
    assert 0.8 < before["coverage"] <= 1
    # One prompt's rows are off by far: its own intervals do not hold, and it may not widen them.
    is_off = rows["prompt_id"] == "prompt-7"
    other = rows.assign(token_latency_ms=rows["token_latency_ms"] + 40.0 * is_off)
    after = analysed(other).metrics["coverage"]
    assert after["coverage"] < before["coverage"]


@pytest.mark.parametrize(
    ("split", "unit"), [(SplitName.by_request, "prompt_id"), (SplitName.by_prompt, "prompt_id")]
)
def test_a_fit_on_fewer_rows_keeps_apart_what_the_headline_does(
    rows: pd.DataFrame, analysed: Analyse, split: SplitName, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_apart: list[str] = []
    plain = fit_module._fit

    def spying(pipeline: Pipeline, rows: pd.DataFrame, group: str) -> Pipeline:
        if "phase" in rows and set(rows["phase"]) == {"decode"}:  # first tokens are left out of no other fit
            kept_apart.append(group)
        return plain(pipeline, rows, group)

    monkeypatch.setattr(fit_module, "_fit", spying)
    analysed(rows, split=split)
    assert kept_apart == [unit] * 2
