"""Inside is what steps like it were measured of: all inputs at once, its place in the request, its features."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from truths.rows import THESIS_FEATURES, rows_of

from llmlat import OutsideError, OutsideWarning, Predictor, load_predictor
from llmlat.config import FeaturesConfig, SplitName
from llmlat.fit.export import _ABOUT, write_predictor
from llmlat.fit.fitting import build_pipeline
from llmlat.predict import domain
from llmlat.records import DECODE, PREFILL

ABOUT = dict.fromkeys(_ABOUT, "-")
TREES = {"_target_": "sklearn.ensemble.HistGradientBoostingRegressor", "max_iter": 20, "min_samples_leaf": 5}
RIDGE = {"_target_": "sklearn.linear_model.Ridge"}
BATCHES = FeaturesConfig(["context_length", "batch_size"])

Load = Callable[..., Predictor]


@pytest.fixture(scope="module")
def load(analysed: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Return a function that loads what was fitted on rows, by request."""

    def loaded(
        rows: pd.DataFrame,
        regressor: dict[str, Any] = RIDGE,
        features: FeaturesConfig = THESIS_FEATURES,
        split: SplitName = SplitName.by_request,
    ) -> Predictor:
        folder: Path = tmp_path_factory.mktemp("run")
        write_predictor(folder, analysed(rows, build_pipeline(regressor, features), split, about=ABOUT))
        return load_predictor(folder)

    return loaded


def line_ms(rows: pd.DataFrame) -> Any:
    return 60 + 0.03 * rows["context_length"] + 250.0 * (rows["phase"] == PREFILL)


@pytest.fixture(scope="module")
def thesis(load: Load) -> Predictor:
    """Return the predictor of the thesis's protocol: 15 prompts, at most 56 tokens of each."""
    return load(rows_of(line_ms, noise=2.0, seed=1), split=SplitName.random)


@pytest.fixture(scope="module")
def batches(load: Load) -> Predictor:
    """Return the predictor of large batches at short contexts, and small ones at long contexts."""
    lengths = (64, 128, 256, 512, 1024, 2048, 4096) * 3
    sizes = (16, 16, 16, 16, 4, 1, 1) * 3
    rows = rows_of(
        lambda r: 7 + 6e-5 * r["batch_context_tokens"] + 0.05 * r["batch_size"],
        lengths,
        24,
        noise=0.05,
        batch_sizes=sizes,
    )
    return load(rows[rows["phase"] == DECODE].reset_index(drop=True), features=BATCHES)


def check_infinite(found: Any) -> None:
    assert not np.any(found.is_inside)
    assert np.all(found.high_ms == np.inf)
    assert np.all(found.low_ms == 0)
    assert np.all(np.asarray(found.p50_ms) == np.inf)
    assert found.outside


def test_a_place_in_the_request_that_was_never_reached_is_outside(thesis: Predictor) -> None:
    found = thesis.estimate(prompt_tokens=100, context_length=640)
    check_infinite(found)
    assert found.outside == ("token_index 540 (measured: 1 to 55)",)
    assert thesis.estimate(prompt_tokens=380, context_length=390).is_inside
    with pytest.raises(OutsideError, match=r"token_index 540 \(measured: 1 to 55\)"):
        thesis.estimate(prompt_tokens=100, context_length=640, outside="refuse")


def test_a_corner_that_was_never_measured_is_outside(batches: Predictor) -> None:
    contexts = np.array([2048, 3000, 4000])
    found = batches.estimate(context_length=contexts, batch_size=16)
    check_infinite(found)
    assert "batch_size 16" in found.outside[0]
    assert "not together" in found.outside[0] or "no step like this" in found.outside[0]
    assert batches.estimate(context_length=contexts, batch_size=1).is_inside.tolist() == [False, True, True]
    assert batches.estimate(context_length=300, batch_size=16).is_inside


def test_a_direction_that_was_not_held_out_has_no_interval(load: Load) -> None:
    sizes = (1, 2, 4, 8) * 10
    rows = rows_of(
        lambda r: 7 + 0.3 * r["batch_size"] + 5e-4 * r["context_length"],
        tuple(np.linspace(64, 1000, 40).astype(int)),
        30,
        noise=0.05,
        batch_sizes=sizes,
    )
    asked = load(rows[rows["phase"] == DECODE].reset_index(drop=True), features=BATCHES)
    for size in (12, 16, 64):
        check_infinite(asked.estimate(context_length=500, batch_size=size))
    assert asked.spec["domain"]["along"] == ["context_length"]
    longer = asked.estimate(context_length=1200, batch_size=4)
    assert not longer.is_inside
    assert longer.ms < longer.high_ms < np.inf, "longer contexts were held out"
    check_infinite(asked.estimate(context_length=30, batch_size=4))


def test_what_is_missing_or_unknown_is_said(load: Load) -> None:
    rows = rows_of(line_ms, noise=2.0)
    rows["engine"] = np.where(rows["request_id"] % 2, "eager", "no_cache")
    asked = load(rows, features=FeaturesConfig(["prompt_tokens", "context_length", "engine"]))
    step = {"prompt_tokens": 300, "context_length": 310}
    unknown = asked.estimate(**step, engine="vllm")
    check_infinite(unknown)
    assert unknown.outside == ("engine vllm (measured: eager, no_cache)",)
    with pytest.raises(OutsideError, match=r"engine vllm \(measured: eager, no_cache\)"):
        asked.predict(**step, engine=["eager", "vllm"])
    missing = asked.estimate(prompt_tokens=300, context_length=float("nan"), engine="eager")
    check_infinite(missing)
    assert missing.outside[0].startswith("context_length is missing (measured: 12 to")
    assert np.isfinite(missing.ms), "what is missing is filled in, as when fitting"


def test_what_was_missing_when_measured_may_be_missing(load: Load) -> None:
    rows = rows_of(line_ms, noise=2.0)
    rows["gpu_power_w"] = np.where(rows.index % 5, 300.0 + rows.index % 7, np.nan)
    asked = load(rows, features=FeaturesConfig(["prompt_tokens", "context_length", "gpu_power_w"]))
    step = {"prompt_tokens": 380, "context_length": 390}
    assert asked.estimate(**step, gpu_power_w=float("nan")).is_inside
    assert not asked.estimate(**step, gpu_power_w=900.0).is_inside


def test_trees_say_nothing_of_lengths_between(load: Load) -> None:
    rows = rows_of(
        lambda r: 7 + 0.004 * r["context_length"], (16, 64, 256, 1024, 4096), 24, repetitions=10, noise=0.1
    )
    between = {"prompt_tokens": 2500, "context_length": 2510}
    by_trees = load(rows, TREES)
    check_infinite(by_trees.estimate(**between))
    assert "nothing near, between" in by_trees.estimate(**between).outside[0]
    assert by_trees.estimate(prompt_tokens=1024, context_length=1030).is_inside
    assert load(rows).estimate(**between).is_inside, "a line goes on between"


def test_no_phase_is_outside_where_it_was_not_measured(load: Load) -> None:
    rows = rows_of(line_ms, noise=2.0)
    asked = load(rows[rows["phase"] == DECODE].reset_index(drop=True))
    found = asked.estimate(prompt_tokens=300, context_length=300)
    check_infinite(found)
    assert "prefill steps (measured: decode)" in found.outside


def test_most_of_new_requests_are_inside(load: Load) -> None:
    generator = np.random.default_rng(0)
    lengths, tokens = generator.integers(20, 900, 60), generator.integers(5, 40, 60)
    known = rows_of(line_ms, lengths[:40], tokens[:40], noise=2.0)
    new = rows_of(line_ms, lengths[40:], tokens[40:], noise=2.0)
    for regressor in (RIDGE, TREES):
        asked = load(known, regressor)
        inside = asked.is_inside(new)
        assert inside.index.equals(new.index)
        assert inside.mean() > 0.75, regressor


def test_a_prediction_is_never_quicker_than_the_fastest_step(thesis: Predictor) -> None:
    fastest = {phase: entry["fastest_ms"] for phase, entry in thesis.spec["domain"]["phases"].items()}
    assert fastest[PREFILL] > 200 > fastest[DECODE] > 50
    with warnings.catch_warnings(action="ignore", category=OutsideWarning):
        for context, phase in ((100, PREFILL), (1000, DECODE)):
            assert thesis.predict(prompt_tokens=100, context_length=context) >= fastest[phase]
        low = thesis.predict(prompt_tokens=np.full(3, 1e5), context_length=np.array([1e5, 1e5 + 1, 2e5]))
    assert low.min() >= min(fastest.values())


def test_ms_lies_in_its_interval_wherever_it_is_asked(thesis: Predictor) -> None:
    prompts, contexts = np.meshgrid([0.0, 12, 100, 640, 1e4, 1e8], [0.0, 12, 110, 700, 1e5, 1e9])
    found = thesis.estimate(prompt_tokens=prompts, context_length=contexts)
    assert (found.low_ms <= found.ms).all()
    assert (found.ms <= found.high_ms).all()
    assert (found.ms > 0).all()


def test_it_warns_once(thesis: Predictor) -> None:
    asked = pickle.loads(pickle.dumps(thesis))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked.predict(prompt_tokens=380, context_length=390)
        asked.predict(prompt_tokens=[380, 380], context_length=[390, 391])
    with pytest.warns(OutsideWarning, match=r"token_index 540 \(measured: 1 to 55\)") as caught:
        asked.predict(prompt_tokens=100, context_length=640)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked.predict(prompt_tokens=100, context_length=640)


def test_one_step_in_a_large_batch_is_found_outside(thesis: Predictor) -> None:
    asked = pickle.loads(pickle.dumps(thesis))
    contexts = np.full(100_000, 390.0)
    contexts[77_777] = 700.0
    with pytest.warns(OutsideWarning, match="context_length 700"):
        asked.predict(prompt_tokens=380, context_length=contexts)


def test_figures_can_ask_for_a_plane(thesis: Predictor) -> None:
    prompts, contexts = np.meshgrid(np.arange(10, 700, 30), np.arange(10, 800, 30))
    inside = thesis.is_inside(prompt_tokens=prompts, context_length=contexts)
    assert inside.shape == prompts.shape
    assert inside.dtype == bool
    estimated = thesis.estimate(prompt_tokens=prompts, context_length=contexts).is_inside
    np.testing.assert_array_equal(inside, estimated)
    assert thesis.is_inside(prompt_tokens=380, context_length=390) is True


def test_one_step_at_a_time_is_inside_as_in_an_array(thesis: Predictor, batches: Predictor) -> None:
    generator = np.random.default_rng(0)
    prompts = generator.integers(1, 800, 300)
    asked = {
        thesis: {"prompt_tokens": prompts, "context_length": prompts + generator.integers(0, 80, 300)},
        batches: {"context_length": generator.integers(50, 5000, 300), "batch_size": prompts % 18 + 1},
    }
    for predictor, steps in asked.items():
        inside = predictor.is_inside(**steps)
        assert 0 < inside.sum() < 300
        together = predictor.estimate(**steps).ms
        for k in range(300):
            one = {name: int(values[k]) for name, values in steps.items()}
            quick = predictor._one_step(one, True)
            assert (quick is not None) == inside[k]
            assert predictor._one_step(one, False) == pytest.approx(together[k], rel=1e-12)


def test_its_phases_are_those_of_rows() -> None:
    assert (domain.PREFILL, domain.DECODE) == (PREFILL, DECODE)
