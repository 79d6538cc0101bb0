"""The same fit under every split that the rows allow, and what testing on rows at random hides."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.fit.beside import leakage_gap, parts, splits_beside
from llmlat.fit.evaluate import error_block
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


def configured(name: SplitName) -> SplitConfig:
    column, held_out = ("engine", "no_cache") if name is SplitName.leave_one_out else (None, None)
    return SplitConfig(name, 0.25, 1, column, held_out)


@pytest.mark.parametrize("name", SplitName)
def test_every_split_is_disjoint_and_complete(several: pd.DataFrame, name: SplitName) -> None:
    shuffled = several.sample(frac=1, random_state=3)
    train, test = split_rows(shuffled, configured(name))
    assert sorted([*train, *test]) == list(range(len(several)))
    assert len(train) > len(test) > 0 or name is SplitName.leave_one_out
    again = split_rows(shuffled, configured(name))
    assert [part.tolist() for part in again] == [train.tolist(), test.tolist()]


@pytest.mark.parametrize("name", list(KEPT_APART))
def test_what_is_drawn_whole_is_on_one_side(several: pd.DataFrame, name: SplitName) -> None:
    train, test = parts(several, split_rows(several, configured(name)))
    assert not set(train[KEPT_APART[name]]) & set(test[KEPT_APART[name]])


def test_equal_contexts_and_equal_times_are_not_divided(several: pd.DataFrame) -> None:
    for share in (0.05, 0.2, 0.4, 0.9):
        train, test = parts(several, split_rows(several, SplitConfig(SplitName.extrapolate, share)))
        assert train["context_length"].max() < test["context_length"].min()
        assert len(test) <= np.ceil(share * len(several))


def test_each_split_has_its_own_errors(several: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    pipeline, split = make_pipeline(), SplitConfig(SplitName.random, 0.25, 1)
    found = splits_beside(several, pipeline, split, {})
    assert set(found) == {
        "random",
        "by_request",
        "by_prompt",
        "by_time",
        "extrapolate",
        "leave_one_out:engine",
    }
    for name in SplitName:
        if name is SplitName.leave_one_out:
            continue
        train, test = parts(several, split_rows(several, SplitConfig(name, 0.25, 1)))
        fitted = fit(pipeline, train)
        expected = error_block(test["token_latency_ms"].to_numpy(), predict(fitted, test))
        assert found[str(name)].items() >= {**expected, "n_train": len(train), "n_test": len(test)}.items()


def test_each_value_is_left_out_and_judged_together(
    several: pd.DataFrame, make_pipeline: MakePipeline
) -> None:
    found = splits_beside(several, make_pipeline(), SplitConfig(SplitName.random), {})["leave_one_out:engine"]
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


def test_an_extrapolation_without_a_column_is_of_the_context(
    several: pd.DataFrame, make_pipeline: MakePipeline
) -> None:
    split = SplitConfig(SplitName.extrapolate, 0.4)
    assert "extrapolate" in splits_beside(several, make_pipeline(), split, {})
    by_prompt = SplitConfig(SplitName.extrapolate, 0.4, column="prompt_tokens")
    found = splits_beside(several, make_pipeline(), by_prompt, {})["extrapolate"]
    assert found["n_train"] == len(split_rows(several, by_prompt)[0])


def test_a_made_up_fit_is_not_made_twice(
    several: pd.DataFrame, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmlat.fit import beside

    split = SplitConfig(SplitName.by_request, 0.25, 1)
    known = {split.name: beside.fit_and_test(several, make_pipeline(), split)}
    expected = splits_beside(several, make_pipeline(), split, {})
    made: list[Any] = []
    monkeypatch.setattr(
        beside, "fit_and_test", lambda rows, pipeline, s: made.append(s.name) or known[split.name]
    )
    found = splits_beside(several, make_pipeline(), split, known)
    assert SplitName.by_request not in made
    assert found["by_request"] == expected["by_request"]


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


@pytest.mark.parametrize("missing", ["random", "by_request"])
def test_without_one_of_the_two_there_is_no_gap(missing: str) -> None:
    splits = {"random": {"mae_ms": 1.0}, "by_request": {"mae_ms": 2.0}}
    assert leakage_gap(splits) is not None
    assert leakage_gap({**splits, missing: {"mae_ms": None, "reason": "too few"}}) is None
