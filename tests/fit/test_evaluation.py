"""Out-of-fold predictions: training rows alone, groups kept whole, and a reason where there are too few."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline

from llmlat.config import SplitName
from llmlat.errors import ConfigError
from llmlat.fit.compared import validation_of
from llmlat.fit.evaluate import error_block
from llmlat.fit.evaluation import out_of_fold
from llmlat.fit.results import Analysis

MakeRows = Callable[..., pd.DataFrame]
MakePipeline = Callable[..., Pipeline]
Found = dict[str, Any]
LENGTHS = np.linspace(12, 640, 15).astype(int)


def validated(train: pd.DataFrame, pipeline: Pipeline, held_whole: str | None, seed: int = 0) -> Found:
    try:
        return validation_of(out_of_fold(train, pipeline, held_whole, seed=seed))
    except ConfigError as error:
        return validation_of(str(error))


def test_it_is_scikit_learns_cross_validation(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    train = make_rows(LENGTHS, noise_ms=2.0)
    found = validated(train, make_pipeline(), "request_id")
    target = train["token_latency_ms"].to_numpy()
    folds = GroupKFold(5).split(train, groups=train["request_id"])
    expected = cross_val_predict(clone(make_pipeline()), train, target, cv=folds)
    assert found["validation"] == {**error_block(target, expected), "n_folds": 5, "grouped_by": "request_id"}
    assert found["validation_reason"] is None


def test_rows_at_random_are_drawn_by_the_seed(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    train = make_rows([10, 500], noise_ms=1.0)
    found = validated(train, make_pipeline(), None)["validation"]
    assert (found["n"], found["n_folds"], found["grouped_by"]) == (len(train), 5, None)
    assert found == validated(train, make_pipeline(), None)["validation"], "the same folds each time"
    other = validated(train, make_pipeline(), None, 1)["validation"]
    assert other["mae_ms"] != found["mae_ms"]


@pytest.mark.parametrize("split", [SplitName.random, SplitName.by_request, SplitName.by_prompt])
def test_no_test_row_takes_part(
    analysed: Callable[..., Analysis], thesis_rows: pd.DataFrame, split: SplitName
) -> None:
    before = analysed(thesis_rows, split=split)
    other = thesis_rows.copy()
    other.loc[before.predictions.index, "token_latency_ms"] *= 100
    after = analysed(other, split=split)
    assert before.metrics["validation"]["n"] == before.metrics["n_train"]
    assert after.metrics["validation"] == before.metrics["validation"]
    assert after.metrics["mae_ms"] != before.metrics["mae_ms"]


def test_few_requests_make_fewer_folds(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    found = validated(make_rows([10, 60, 200]), make_pipeline(), "request_id")
    assert found["validation"]["n_folds"] == 3


@pytest.mark.parametrize(
    ("lengths", "tokens", "held_whole", "said"),
    [
        ([10], 40, "request_id", "1 training requests are too few"),
        ([10, 20], 2, "request_id", "2 training requests are too few"),
        ([10], 3, None, "3 training rows are too few"),
        ([10], 1, None, "1 training rows are too few"),
    ],
    ids=str,
)
def test_too_few_to_divide_is_said(
    make_rows: MakeRows,
    make_pipeline: MakePipeline,
    lengths: list[int],
    tokens: int,
    held_whole: str | None,
    said: str,
) -> None:
    found = validated(make_rows(lengths, tokens=tokens), make_pipeline(), held_whole)
    assert found["validation"] is None
    assert found["validation_reason"].startswith(said)


def test_a_regressor_that_fails_on_a_fold_is_said(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    neighbours = make_pipeline("neighbors.KNeighborsRegressor", n_neighbors=55)
    found = validated(make_rows([10, 20]), neighbours, None)  # fits on 60 rows, and on no 48 of them
    assert found["validation"] is None
    assert "n_neighbors" in found["validation_reason"]


def test_one_evaluation_makes_so_many_fits(
    analysed: Callable[..., Analysis],
    make_rows: MakeRows,
    thesis_rows: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from llmlat.fit import fitting

    fits: list[int] = []
    plain = fitting._fit
    monkeypatch.setattr(fitting, "_fit", lambda *given: fits.append(1) or plain(*given))
    analysed(make_rows(LENGTHS, noise_ms=1.0))
    # The headline, five folds of rows and of requests, two beyond, one later, and one on fewer rows.
    assert len(fits) == 1 + 5 + 5 + 2 + 1 + 1
    fits.clear()
    analysed(thesis_rows)
    assert len(fits) == 1 + 5 + 5 + 2 + 1 + 2 + 10, (
        "and the folds again without the row that would decide the gap"
    )


@pytest.mark.parametrize("split", [SplitName.random, SplitName.by_request, SplitName.by_time])
def test_folds_bands_and_choices_are_of_prompts_where_prompts_repeat(
    analysed: Callable[..., Analysis], make_rows: MakeRows, split: SplitName
) -> None:
    repeated = analysed(make_rows(LENGTHS, tokens=6, repetitions=3, noise_ms=1.0), split=split).metrics
    assert repeated["split"]["group"] == "prompt_id"
    assert repeated["validation"]["grouped_by"] == "prompt_id"
    assert repeated["calibration"]["grouped_by"] == "prompt_id"
    assert repeated["coverage"]["n_groups"] == 15
    assert repeated["leakage_gap"]["grouped"] == "by_prompt"
    once = analysed(make_rows(LENGTHS, tokens=6, noise_ms=1.0), split=split).metrics
    assert once["validation"]["grouped_by"] == "request_id"
