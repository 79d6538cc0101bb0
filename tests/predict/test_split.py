"""Rows and requests divided as scikit-learn divides them, or a line that says why not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.predict.split import count_test_units, split_rows

MakeRows = Callable[..., pd.DataFrame]


@pytest.mark.parametrize("seed", [0, 7])
def test_random_is_the_thesis_split_and_sklearns(thesis_rows: pd.DataFrame, seed: int) -> None:
    train, test = split_rows(thesis_rows, SplitConfig(SplitName.random, 0.2, seed))
    assert (len(train), len(test)) == (376, 95)
    expected_train, expected_test = train_test_split(np.arange(471), test_size=0.2, random_state=seed)
    assert train.tolist() == sorted(expected_train)
    assert test.tolist() == sorted(expected_test)


@pytest.mark.parametrize("name", list(SplitName))
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
        count_test_units(n_rows, n_requests, SplitConfig(name, test_size, 0))


def test_the_fewest_that_do() -> None:
    assert count_test_units(5, 1, SplitConfig(SplitName.random, 0.4, 0)) == 2
    assert count_test_units(2, 2, SplitConfig(SplitName.by_request, 0.5, 0)) == 1


def test_too_few_rows_are_refused_when_they_come(make_rows: MakeRows) -> None:
    with pytest.raises(ConfigError, match=r"^split=random: 4 rows"):
        split_rows(make_rows([10], tokens=4), SplitConfig(SplitName.random, 0.2, 0))
    with pytest.raises(ConfigError, match=r"^split=by_request: 1 requests"):
        split_rows(make_rows([10], tokens=40), SplitConfig(SplitName.by_request, 0.2, 0))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 20, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ConfigError, match=r"^split.test_size="):
        count_test_units(471, 15, SplitConfig(SplitName.random, share, 0))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_sklearn_refuses_is_found_before_measuring(seed: int) -> None:
    with pytest.raises(ConfigError, match=r"^split.seed="):
        count_test_units(471, 15, SplitConfig(SplitName.random, 0.2, seed))
