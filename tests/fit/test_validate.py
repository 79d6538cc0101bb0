"""Validation folds: the training rows alone, requests kept whole, and a reason where there are too few."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.fit.evaluate import error_block
from llmlat.fit.results import Analysis
from llmlat.fit.validate import validate, validation_of

MakeRows = Callable[..., pd.DataFrame]
MakePipeline = Callable[..., Pipeline]
BY_REQUEST, RANDOM = SplitConfig(SplitName.by_request), SplitConfig(SplitName.random)
Found = dict[str, Any]
LENGTHS = np.linspace(12, 640, 15).astype(int)


def validated(train: pd.DataFrame, pipeline: Pipeline, split: SplitConfig) -> Found:
    return validation_of(train, validate(train, pipeline, split))


def test_it_is_scikit_learns_cross_validation(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    train = make_rows(LENGTHS, noise_ms=2.0)
    found = validated(train, make_pipeline(), BY_REQUEST)
    target = train["token_latency_ms"].to_numpy()
    folds = GroupKFold(5).split(train, groups=train["request_id"])
    expected = cross_val_predict(clone(make_pipeline()), train, target, cv=folds)
    assert found["validation"] == {**error_block(target, expected), "n_folds": 5, "grouped_by": "request_id"}
    assert found["validation_reason"] is None


def test_random_rows_are_validated_on_random_rows(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    train = make_rows([10, 500], noise_ms=1.0)
    found = validated(train, make_pipeline(), RANDOM)["validation"]
    assert (found["n"], found["n_folds"], found["grouped_by"]) == (len(train), 5, None)
    assert found == validated(train, make_pipeline(), RANDOM)["validation"], "the same folds each time"
    other = validated(train, make_pipeline(), SplitConfig(SplitName.random, seed=1))["validation"]
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
    found = validated(make_rows([10, 60, 200]), make_pipeline(), BY_REQUEST)
    assert found["validation"]["n_folds"] == 3


@pytest.mark.parametrize(
    ("lengths", "tokens", "split", "said"),
    [
        ([10], 40, BY_REQUEST, "1 training requests are too few"),
        ([10, 20], 2, BY_REQUEST, "2 training requests are too few"),
        ([10], 3, RANDOM, "3 training rows are too few"),
        ([10], 1, RANDOM, "1 training rows are too few"),
    ],
    ids=str,
)
def test_too_few_to_divide_is_said(
    make_rows: MakeRows,
    make_pipeline: MakePipeline,
    lengths: list[int],
    tokens: int,
    split: SplitConfig,
    said: str,
) -> None:
    found = validated(make_rows(lengths, tokens=tokens), make_pipeline(), split)
    assert found["validation"] is None
    assert found["validation_reason"].startswith(said)


def test_a_regressor_that_fails_on_a_fold_is_said(make_rows: MakeRows, make_pipeline: MakePipeline) -> None:
    neighbours = make_pipeline("neighbors.KNeighborsRegressor", n_neighbors=55)
    found = validated(make_rows([10, 20]), neighbours, RANDOM)  # fits on 60 rows, and on no 48 of them
    assert found["validation"] is None
    assert "n_neighbors" in found["validation_reason"]
