"""The same fit under every split that the rows allow, and what testing on rows at random hides."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.fit.compared import leakage_gap, splits_compared
from llmlat.fit.evaluate import error_block
from llmlat.fit.evaluation import evaluate
from llmlat.fit.fitting import fit, predict
from llmlat.fit.results import Analysis
from llmlat.fit.split import split_rows

MakeRows = Callable[..., pd.DataFrame]
MakePipeline = Callable[..., Pipeline]
Analyse = Callable[..., Analysis]
LENGTHS = np.linspace(12, 640, 24).astype(int)
KEPT_APART = {SplitName.by_request: "request_id", SplitName.by_prompt: "prompt_id"}


@pytest.fixture(scope="module")
def several(make_rows: MakeRows) -> pd.DataFrame:
    """Return rows of two engines, every prompt twice."""
    rows = make_rows(LENGTHS, tokens=8, repetitions=2, noise_ms=0.5)
    return rows.assign(engine=np.where(rows["request_id"] % 2, "eager", "no_cache"))


def parts(rows: pd.DataFrame, split: SplitConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, test = split_rows(rows, split)
    return rows.iloc[train], rows.iloc[test]


def configured(name: SplitName) -> SplitConfig:
    column, held_out = ("engine", "no_cache") if name is SplitName.leave_one_out else (None, None)
    return SplitConfig(name, 0.25, 1, column, held_out)


@pytest.mark.parametrize("name", SplitName)
def test_every_split_is_disjoint_and_leaves_nothing_out(several: pd.DataFrame, name: SplitName) -> None:
    shuffled = several.sample(frac=1, random_state=3)
    train, test = split_rows(shuffled, configured(name))
    left = set(range(len(several))) - set(train) - set(test)
    assert len(train) + len(test) + len(left) == len(several)
    # But for the other side of requests that grow across the border.
    assert not left or name is SplitName.extrapolate
    assert len(train) >= len(test) > 0
    again = split_rows(shuffled, configured(name))
    assert [part.tolist() for part in again] == [train.tolist(), test.tolist()]


@pytest.mark.parametrize("name", list(KEPT_APART))
def test_what_is_drawn_whole_is_on_one_side(several: pd.DataFrame, name: SplitName) -> None:
    train, test = parts(several, configured(name))
    assert not set(train[KEPT_APART[name]]) & set(test[KEPT_APART[name]])


def test_equal_contexts_and_equal_times_are_not_divided(several: pd.DataFrame) -> None:
    for share in (0.05, 0.2, 0.4, 0.9):
        train, test = parts(several, SplitConfig(SplitName.extrapolate, share))
        assert train["context_length"].max() < test["context_length"].min()
        assert len(test) <= np.ceil(share * len(several))


def test_each_way_of_dividing_has_its_own_errors(several: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    pipeline, split = make_pipeline(), SplitConfig(SplitName.random, 0.25, 1)
    evaluation = evaluate(several, pipeline, split)
    found = splits_compared(evaluation)
    assert set(found) == {
        "random",
        "by_request",
        "by_prompt",
        "by_time",
        "extrapolate",
        "leave_one_out:engine",
    }
    train = evaluation.train
    for name in ("random", "by_request", "by_prompt"):
        assert found[name]["n_test"] == len(train), "every training row once"
        assert found[name]["n_train"] == pytest.approx(0.8 * len(train), rel=0.1)
        assert found[name]["baselines"]["mean"]["n"] == len(train)
    fitted_on, tested_on = parts(train, SplitConfig(SplitName.by_time, 0.25))
    predicted = predict(fit(pipeline, fitted_on), tested_on)
    expected = error_block(tested_on["token_latency_ms"].to_numpy(), predicted)
    told = {**expected, "n_train": len(fitted_on), "n_test": len(tested_on)}
    assert found["by_time"].items() >= told.items()


def test_each_value_is_left_out_and_judged_together(
    several: pd.DataFrame, make_pipeline: MakePipeline
) -> None:
    evaluation = evaluate(several, make_pipeline(), SplitConfig(SplitName.random))
    found = splits_compared(evaluation)["leave_one_out:engine"]
    missed = []
    for value in ("eager", "no_cache"):
        inside = several["engine"] == value
        fitted = fit(make_pipeline(), several[~inside])
        measured = several.loc[inside, "token_latency_ms"].to_numpy()
        expected = error_block(measured, predict(fitted, several[inside]))
        assert found["by_value"][value] == expected
        missed.append(np.abs(measured - predict(fitted, several[inside])))
    assert found["mae_ms"] == pytest.approx(np.concatenate(missed).mean())
    assert found["n_test"] == len(several)


def test_an_extrapolation_by_another_column_is_the_headlines_own(
    several: pd.DataFrame, make_pipeline: MakePipeline
) -> None:
    by_prompt = SplitConfig(SplitName.extrapolate, 0.4, column="prompt_tokens")
    evaluation = evaluate(several, make_pipeline(), by_prompt)
    found = splits_compared(evaluation)["extrapolate"]
    assert found["n_train"] == len(split_rows(several, by_prompt)[0])
    assert found["n_test"] == len(evaluation.predictions)


def with_offsets(rows: pd.DataFrame, by: str, spread_ms: float) -> pd.DataFrame:
    """Give each request, or prompt, a latency of its own that no feature tells."""
    names = rows[by].astype("category").cat.codes
    offsets = np.random.default_rng(4).normal(0, spread_ms, names.max() + 1)
    return rows.assign(token_latency_ms=rows["token_latency_ms"] + offsets[names])


FOREST = ("ensemble.RandomForestRegressor", {"n_estimators": 15, "random_state": 0})


@pytest.mark.parametrize(("by", "repetitions"), [("request_id", 1), ("prompt_id", 3)])
def test_the_leakage_gap_shows_what_rows_of_one_request_share(
    make_rows: MakeRows, analysed: Analyse, make_pipeline: MakePipeline, by: str, repetitions: int
) -> None:
    rows = make_rows(LENGTHS, tokens=16, repetitions=repetitions, noise_ms=0.2, per_context=0.0)
    rows = with_offsets(rows, by, 3.0)
    gap = analysed(rows, make_pipeline(FOREST[0], **FOREST[1])).metrics["leakage_gap"]
    assert gap["grouped"] == ("by_request" if repetitions == 1 else "by_prompt")
    assert gap["mae_ratio"] == pytest.approx(gap["grouped_mae_ms"] / gap["random_mae_ms"])
    assert gap["mae_ratio"] > 3


@pytest.mark.parametrize("target", [("linear_model.Ridge", {}), FOREST], ids=["ridge", "forest"])
def test_there_is_no_leakage_gap_where_rows_share_nothing(
    make_rows: MakeRows, analysed: Analyse, make_pipeline: MakePipeline, target: tuple[str, dict[str, Any]]
) -> None:
    # So little noise beside the slope would be a gap of its own for trees, which cannot go on.
    rows = make_rows(LENGTHS, tokens=40, noise_ms=1.0, per_context=1e-4)
    gap = analysed(rows, make_pipeline(target[0], **target[1])).metrics["leakage_gap"]
    assert 0.8 < gap["mae_ratio"] < 1.25


def test_a_row_that_decides_the_comparison_takes_no_part(make_rows: MakeRows, analysed: Analyse) -> None:
    rows = make_rows(LENGTHS, tokens=20, noise_ms=1.0)
    plain = analysed(rows).metrics["leakage_gap"]
    rows.loc[analysed(rows).train.index[0], "token_latency_ms"] = 1500.0
    slow = analysed(rows).metrics["leakage_gap"]
    assert (plain["n_left_out"], slow["n_left_out"]) == (0, 1)
    assert slow["n_rows"] == plain["n_rows"] - 1
    assert slow["mae_ratio"] == pytest.approx(plain["mae_ratio"], abs=0.03)
    low, high = slow["mae_ratio_interval"]
    assert low < slow["mae_ratio"] < high


def test_without_whole_requests_to_hold_out_there_is_no_gap(
    make_rows: MakeRows, make_pipeline: MakePipeline
) -> None:
    evaluation = evaluate(make_rows([10], tokens=40), make_pipeline(), SplitConfig(SplitName.random))
    assert leakage_gap(evaluation, make_pipeline()) is None
