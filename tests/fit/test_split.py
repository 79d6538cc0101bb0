"""Rows and requests divided as scikit-learn divides them, or a line that says why not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.split import Counts, count_test_units, group_of, split_rows

MakeRows = Callable[..., pd.DataFrame]
DRAWN = [SplitName.random, SplitName.by_request, SplitName.by_prompt]


@pytest.mark.parametrize("seed", [0, 7])
def test_random_is_the_thesis_split_and_sklearns(thesis_rows: pd.DataFrame, seed: int) -> None:
    train, test = split_rows(thesis_rows, SplitConfig(SplitName.random, 0.2, seed))
    assert (len(train), len(test)) == (376, 95)
    expected_train, expected_test = train_test_split(np.arange(471), test_size=0.2, random_state=seed)
    assert train.tolist() == sorted(expected_train)
    assert test.tolist() == sorted(expected_test)


@pytest.mark.parametrize("name", DRAWN)
def test_a_split_covers_every_row_once_and_follows_its_seed(
    thesis_rows: pd.DataFrame, name: SplitName
) -> None:
    first, again, other = (split_rows(thesis_rows, SplitConfig(name, 0.2, seed)) for seed in (3, 3, 4))
    assert sorted([*first[0], *first[1]]) == list(range(471))
    assert first[1].tolist() == again[1].tolist() != other[1].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_by_request_shares_no_request(thesis_rows: pd.DataFrame, seed: int) -> None:
    train, test = split_rows(thesis_rows, SplitConfig(SplitName.by_request, 0.2, seed))
    requests = thesis_rows["request_id"].to_numpy()
    assert not set(requests[train]) & set(requests[test])
    assert len(set(requests[test])) == 3


@pytest.mark.parametrize(
    ("name", "n_rows", "n_requests", "test_size"),
    [
        (SplitName.random, 4, 4, 0.2),  # one test row
        (SplitName.random, 4, 4, 0.5),  # two training rows
        (SplitName.random, 471, 15, 0.999),
        (SplitName.by_request, 471, 1, 0.2),
        (SplitName.by_request, 471, 3, 0.9),
        (SplitName.by_request, 0, 0, 0.2),
    ],
)
def test_too_few_name_the_split(name: SplitName, n_rows: int, n_requests: int, test_size: float) -> None:
    with pytest.raises(
        ConfigError, match=rf"^split={name}: \d+ (rows|requests) are too few for split.test_size="
    ):
        count_test_units(Counts(n_rows, n_requests, n_requests), SplitConfig(name, test_size, 0))


def test_the_fewest_that_do() -> None:
    assert count_test_units(Counts(5, 1, 1), SplitConfig(SplitName.random, 0.4, 0)) == 2
    assert count_test_units(Counts(2, 2, 2), SplitConfig(SplitName.by_request, 0.5, 0)) == 1


def test_too_few_rows_are_refused_when_they_come(make_rows: MakeRows) -> None:
    with pytest.raises(ConfigError, match=r"^split=random: 4 rows"):
        split_rows(make_rows([10], tokens=4), SplitConfig(SplitName.random, 0.2, 0))
    with pytest.raises(ConfigError, match=r"^split=by_request: 1 requests"):
        split_rows(make_rows([10], tokens=40), SplitConfig(SplitName.by_request, 0.2, 0))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 20, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ConfigError, match=r"^split.test_size="):
        count_test_units(Counts(471, 15, 15), SplitConfig(SplitName.random, share, 0))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_sklearn_refuses_is_found_before_measuring(seed: int) -> None:
    with pytest.raises(ConfigError, match=r"^split.seed="):
        count_test_units(Counts(471, 15, 15), SplitConfig(SplitName.random, 0.2, seed))


def test_by_prompt_keeps_the_repetitions_of_a_prompt_together(make_rows: MakeRows) -> None:
    rows = make_rows([10, 20, 30, 40, 50], tokens=4, repetitions=3)
    train, test = split_rows(rows, SplitConfig(SplitName.by_prompt, 0.4, 0))
    prompts = rows["prompt_id"].to_numpy()
    assert len(set(prompts[test])) == 2
    assert not set(prompts[train]) & set(prompts[test])
    assert len(test) == 2 * 3 * 4


def test_extrapolate_fits_the_shorter_and_tests_the_longer(thesis_rows: pd.DataFrame) -> None:
    train, test = split_rows(thesis_rows, SplitConfig(SplitName.extrapolate, 0.4))
    context = thesis_rows["context_length"].to_numpy()
    assert context[train].max() < context[test].min()
    assert 0.3 < len(test) / len(thesis_rows) <= 0.4
    by_prompt = SplitConfig(SplitName.extrapolate, 0.4, column="prompt_tokens")
    train, test = split_rows(thesis_rows, by_prompt)
    prompt = thesis_rows["prompt_tokens"].to_numpy()
    assert prompt[train].max() < prompt[test].min()


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ("batch_size", r"^split=extrapolate: too few rows have batch_size above 1;"),
        ("engine", r"^split\.column=engine: it is no number"),
        ("contxt", r"^split\.column=contxt: the rows have no such column; did you mean \w+\? They have "),
    ],
)
def test_what_cannot_be_extrapolated(thesis_rows: pd.DataFrame, column: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        split_rows(thesis_rows, SplitConfig(SplitName.extrapolate, 0.4, column=column))


def test_extrapolate_has_no_request_on_both_sides(make_rows: MakeRows) -> None:
    rows = make_rows(np.linspace(100, 300, 12).astype(int), tokens=600)  # each grows across the border
    train, test = split_rows(rows, SplitConfig(SplitName.extrapolate, 0.4))
    request, context = rows["request_id"].to_numpy(), rows["context_length"].to_numpy()
    assert not set(request[train]) & set(request[test])
    assert context[train].max() < context[test].min()
    assert (len(set(request[train])), len(set(request[test]))) == (6, 6)


def test_by_time_tests_the_requests_that_came_last(thesis_rows: pd.DataFrame) -> None:
    shuffled = thesis_rows.sample(frac=1, random_state=0).reset_index(drop=True)
    train, test = split_rows(shuffled, SplitConfig(SplitName.by_time, 0.2))
    time, request = (shuffled[name].to_numpy() for name in ("completed_at_ns", "request_id"))
    assert set(request[test]) == {12, 13, 14}
    assert time[train].max() < time[test].min()


def test_by_time_tests_the_last_of_each_prompt_where_prompts_repeat(make_rows: MakeRows) -> None:
    rows = make_rows([10, 20, 30, 40, 50], tokens=4, repetitions=3)
    train, test = split_rows(rows, SplitConfig(SplitName.by_time, 0.2))
    assert set(rows["repetition"].iloc[test]) == {2}
    assert rows["prompt_id"].iloc[test].nunique() == rows["prompt_id"].iloc[train].nunique() == 5


@pytest.mark.parametrize(
    ("group", "repetitions", "column"),
    [
        ("auto", 1, "request_id"),
        ("auto", 2, "prompt_id"),
        ("request", 2, "request_id"),
        ("prompt", 1, "prompt_id"),
        ("session_id", 2, "session_id"),
    ],
)
def test_what_is_kept_apart(make_rows: MakeRows, group: str, repetitions: int, column: str) -> None:
    rows = make_rows([10, 20, 30], tokens=4, repetitions=repetitions)
    assert group_of(rows, SplitConfig(SplitName.random, group=group)) == column


def test_a_group_that_is_no_column_is_refused(make_rows: MakeRows) -> None:
    with pytest.raises(ConfigError, match=r"^split\.group=promt: the rows have no such column"):
        group_of(make_rows([10, 20]), SplitConfig(SplitName.random, group="promt"))


def test_leave_one_out_tests_one_value(thesis_rows: pd.DataFrame) -> None:
    rows = thesis_rows.assign(quantization=np.where(thesis_rows["request_id"] % 3, "int8", "nf4"))
    split = SplitConfig(SplitName.leave_one_out, column="quantization", held_out="nf4")
    train, test = split_rows(rows, split)
    assert set(rows["quantization"].iloc[test]) == {"nf4"}
    assert set(rows["quantization"].iloc[train]) == {"int8"}
    assert len(train) + len(test) == 471


@pytest.mark.parametrize(
    ("column", "held_out", "complaint"),
    [
        (None, None, r"^split\.column: name the column"),
        ("engine", None, r"^split\.held_out=null: name the value that is left out; engine is eager\.$"),
        ("engine", "eagr", r"^split\.held_out=eagr: no row has it; engine is eager\.$"),
        ("engine", "eager", r"^split\.held_out=eager: engine is that in all 471 rows"),
    ],
)
def test_what_cannot_be_left_out(
    thesis_rows: pd.DataFrame, column: str | None, held_out: str | None, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        split_rows(thesis_rows, SplitConfig(SplitName.leave_one_out, column=column, held_out=held_out))
