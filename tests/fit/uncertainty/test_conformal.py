"""Bands from held-out groups: small cases by hand, and many draws of groups that were never seen."""

import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from llmlat.fit.evaluation import beyond, out_of_fold
from llmlat.fit.fitting import fit, predict
from llmlat.fit.uncertainty import conformal
from llmlat.fit.uncertainty.calibration import Calibration, calibrate_bands, coverage
from llmlat.fit.uncertainty.conformal import Band, calibrate, groups_needed, relative_misses

MakeRows = Callable[..., pd.DataFrame]
MakePipeline = Callable[..., Pipeline]


def calibrated(train: pd.DataFrame, pipeline: Pipeline) -> Calibration:
    inside, outside = out_of_fold(train, pipeline, "request_id"), beyond(train, pipeline, "request_id")
    return calibrate_bands(inside.predictions, "request_id", outside.predictions)


def band(groups: dict[str, list[float]], predicted_ms: float = 100.0) -> Band:
    """Return the band of groups of misses, given as shares of the prediction."""
    names = [name for name, misses in groups.items() for _ in misses]
    misses = np.concatenate(list(groups.values()))
    rows = pd.DataFrame({"request_id": names, "token_latency_ms": predicted_ms * (1 + misses)})
    return calibrate(rows, np.full(len(rows), predicted_ms), "request_id", least_ms=1.0)


def test_groups_count_the_same_whatever_their_size() -> None:
    # K = 2: the row of the first weighs 1/3, those of the second 1/6 each, and 1/3 lies at infinity.
    found = band({"a": [0.5], "b": [0.1, -0.2]})
    assert (found.n_groups, found.n_rows) == (2, 3)
    assert found.levels["0.5"] == pytest.approx(0.5)  # 0.1 and 0.2 reach 1/3, and 0.5 reaches 2/3
    assert [found.levels[level] for level in ("0.8", "0.9", "0.95", "0.99")] == [None] * 4
    assert found.quantiles == {"0.5": pytest.approx(0.5), "0.9": None, "0.99": None}


def test_signs_count_for_quantiles_and_not_for_levels() -> None:
    found = band({"a": [-0.3], "b": [-0.1], "c": [0.2, 0.2, 0.2, 0.2]})
    assert found.levels["0.5"] == pytest.approx(0.2)  # weights 1/4 each: 0.1, 0.2, then 0.3
    assert found.quantiles["0.5"] == pytest.approx(-0.1)


def test_one_row_a_group_is_the_usual_rule() -> None:
    misses = np.random.default_rng(0).normal(size=99)
    found = band({str(k): [miss] for k, miss in enumerate(misses)})
    ranked = np.sort(np.abs(misses))
    for level in conformal.LEVELS:
        rank = int(np.ceil(round(level * 100, 9)))
        assert found.levels[f"{level:g}"] == pytest.approx(ranked[rank - 1])


@pytest.mark.parametrize("level", conformal.LEVELS[1:])
def test_it_takes_so_many_groups(level: float) -> None:
    needed = groups_needed(level)
    enough, too_few = (band({str(k): [0.1] * 3 for k in range(n)}) for n in (needed, needed - 1))
    assert enough.levels[f"{level:g}"] == pytest.approx(0.1)
    assert too_few.levels[f"{level:g}"] is None


def test_a_miss_is_relative_to_the_prediction_but_not_to_less_than_a_little() -> None:
    measured, predicted = np.array([12.0, 8.0, 3.0]), np.array([10.0, 10.0, -5.0])
    np.testing.assert_allclose(relative_misses(measured, predicted, 2.0), [0.2, -0.2, 4.0])


def test_the_examples_in_the_docstrings_run() -> None:
    results = doctest.testmod(conformal)
    assert (results.attempted, results.failed) == (1, 0)


def new_groups(generator: np.random.Generator, n_groups: int) -> pd.DataFrame:
    """Draw groups of unequal size whose rows share an offset; sizes go with the offsets."""
    offsets = generator.normal(0, 6, n_groups)
    sizes = generator.integers(2, 40, n_groups) + 60 * (np.abs(offsets) < 2)
    group = np.repeat(np.arange(n_groups), sizes)
    latency = 100 + offsets[group] + generator.normal(0, 1, len(group))
    names = {"request_id": group, "phase": "decode", "context_length": np.arange(len(group))}
    return pd.DataFrame({**names, "token_latency_ms": latency})


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_new_groups_lie_within_as_often_as_is_promised(level: float) -> None:
    generator, held = np.random.default_rng(0), []
    for _ in range(100):
        rows, new = new_groups(generator, 40), new_groups(generator, 200)
        found = calibrate(rows, np.full(len(rows), 100.0), "request_id", 5.0)
        calibration = Calibration("request_id", 5.0, {"decode": found}, None)
        held.append(coverage(new, np.full(len(new), 100.0), calibration, level)["coverage"])
    # The promise is "or more": by at most what one group more or less weighs.
    assert level - 0.02 < np.mean(held) < level + 1 / 41 + 0.01


def of_unlike_requests(make_rows: MakeRows, n_requests: int, seed: int) -> pd.DataFrame:
    """Make requests with an offset each that no feature tells."""
    generator = np.random.default_rng(seed)
    lengths = generator.permutation(np.arange(10, 10 + 40 * n_requests, 40))
    rows = make_rows(lengths, tokens=12, noise_ms=0.3, per_context=0.0, intercept_ms=50.0, seed=seed)
    offsets = generator.normal(0, 4, n_requests)
    return rows.assign(token_latency_ms=rows["token_latency_ms"] + offsets[rows["request_id"]])


def test_bands_by_request_hold_where_bands_by_row_do_not(
    make_rows: MakeRows, make_pipeline: MakePipeline
) -> None:
    tree = make_pipeline("tree.DecisionTreeRegressor", random_state=0)
    by_request, by_row = [], []
    for seed in range(8):
        train, new = (of_unlike_requests(make_rows, n, s) for n, s in ((40, seed), (50, 100 + seed)))
        predicted = predict(fit(tree, train), new)
        as_rows = out_of_fold(train, tree, None).predictions
        as_rows = as_rows.assign(request_id=np.arange(len(train)))  # as if rows were exchangeable
        bands = (calibrated(train, tree), calibrate_bands(as_rows, "request_id"))
        for calibration, held in zip(bands, (by_request, by_row), strict=True):
            held.append(coverage(new, predicted, calibration)["by_phase"]["decode"]["coverage"])
    assert 0.86 < np.mean(by_request) < 0.96
    assert np.mean(by_row) < 0.6


def test_each_phase_has_its_own_band(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    rows = make_rows(np.arange(20, 420, 20), tokens=6, noise_ms=0.2)
    noisy = np.random.default_rng(0).normal(0, 8, len(rows)) * (rows["phase"] == "prefill")
    found = calibrated(rows.assign(token_latency_ms=rows["token_latency_ms"] + noisy), make_pipeline())
    assert (found.by_phase["prefill"].n_rows, found.by_phase["decode"].n_rows) == (20, 100)
    first, later = (found.by_phase[phase].levels["0.9"] for phase in ("prefill", "decode"))
    assert first is not None
    assert later is not None
    assert first > 2 * later


def test_beyond_is_wider_where_going_on_is_worse(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    bands = {}
    for bend in (0.0, 1e-3):
        rows = make_rows(np.arange(20, 820, 20), tokens=6, noise_ms=0.5, per_context_squared=bend)
        found = calibrated(rows, make_pipeline())
        assert found.beyond is not None
        bands[bend] = (found.by_phase["decode"].levels["0.8"], found.beyond.levels["0.8"])
    inside, beyond = bands[1e-3]
    assert beyond > 1.5 * inside
    inside, beyond = bands[0.0]
    assert beyond == pytest.approx(inside, rel=0.5)


def test_beyond_is_told_by_requests_whose_beginning_no_fit_has_seen(
    make_rows: MakeRows, make_pipeline: MakePipeline
) -> None:
    # Every request grows across the border, and a tree tells requests by their prompts' lengths.
    rows = make_rows(np.arange(20, 60), tokens=100, noise_ms=0.1, per_context=0.0, intercept_ms=100.0)
    offsets = np.random.default_rng(0).normal(0, 10, 40)
    rows = rows.assign(token_latency_ms=rows["token_latency_ms"] + offsets[rows["request_id"]])
    tree = make_pipeline("tree.DecisionTreeRegressor", columns=["prompt_tokens"], random_state=0)
    found = calibrated(rows, tree)
    assert found.beyond is not None
    assert found.beyond.n_groups == 40
    # The nearest other request is off by the difference of two offsets: 10 ms of 100, times the root of 2.
    assert found.beyond.levels["0.5"] == pytest.approx(0.6745 * np.sqrt(2) * 0.1, rel=0.5)


def test_coverage_tells_apart_phases_and_contexts() -> None:
    latency = np.array([10.0, 10.0, 20.0, 10.0, 10.0, 30.0])
    rows: Any = {"request_id": [0, 0, 0, 1, 1, 1], "phase": ["prefill", *["decode"] * 5]}
    rows = pd.DataFrame({**rows, "context_length": [1, 2, 3, 4, 5, 6], "token_latency_ms": latency})
    wide, none = ({f"{level:g}": share for level in conformal.LEVELS} for share in (0.5, None))
    bands = {"decode": Band(9, 9, wide, {}), "prefill": Band(9, 9, none, {})}
    found = coverage(rows, np.full(6, 10.0), Calibration("request_id", 1.0, bands, None))
    assert (found["n_groups"], found["n_rows"]) == (2, 6)
    assert found["coverage"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found["by_phase"]["prefill"]["coverage"] == 1.0
    assert found["by_phase"]["prefill"]["median_width_ms"] is None
    assert found["by_phase"]["decode"]["median_width_ms"] == 10.0
    assert [(part["from"], part["to"]) for part in found["by_context"]] == [(1, 2), (3, 4), (5, 6)]
    assert [part["row_coverage"] for part in found["by_context"]] == [1.0, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"level=0\.7"):
        coverage(rows, np.full(6, 10.0), Calibration("request_id", 1.0, bands, None), 0.7)
