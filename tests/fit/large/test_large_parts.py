import numpy as np
import pytest
from large_rows import Opened, noisy_rows

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError, DatasetError
from llmlat.fit.large.parts import divide
from llmlat.fit.split import split_rows
from llmlat.sources.parquet.database import GROUP, POSITION, Part
from llmlat.sources.parquet.groups import Groups, draw_groups

BY_REQUEST = SplitConfig(SplitName.by_request, 0.25, 42)
RANDOM = SplitConfig(SplitName.random, 0.25, 42)


def places(part: Part) -> set[tuple[int, int]]:
    return set(part.database.ask(f"SELECT {GROUP}, {POSITION} FROM {part.view}"))


def test_requests_are_held_out_as_from_rows_in_memory(opened: Opened) -> None:
    rows = noisy_rows()
    counted = rows[~rows["is_warmup"]]
    _, test = split_rows(counted, BY_REQUEST)
    with opened(rows) as stored:
        groups, *parts = divide(stored, BY_REQUEST)
        train_requests, test_requests = ({group for group, _ in places(part)} for part in parts)
        n_rows = sum(len(places(part)) for part in parts)
    assert test_requests == set(counted["request_id"].iloc[test])
    assert train_requests | test_requests == set(counted["request_id"])
    assert not train_requests & test_requests
    assert n_rows == groups.n_rows == len(counted)


def test_requests_may_have_names(opened: Opened) -> None:
    rows = noisy_rows()
    counted = rows[~rows["is_warmup"]]
    renamed = counted.assign(request_id="r" + counted["request_id"].astype(str))
    _, test = split_rows(renamed, BY_REQUEST)
    with opened(rows, group="'r' || request_id") as stored:
        drawn = divide(stored, BY_REQUEST)[2]
        assert {group for group, _ in places(drawn)} == set(renamed["request_id"].iloc[test])


def test_rows_are_drawn_apart_and_always_the_same(opened: Opened) -> None:
    rows = noisy_rows(400)
    drawn = []
    for settings, order in (
        (RANDOM, rows),
        (RANDOM, rows[::-1]),
        (SplitConfig(SplitName.random, 0.25, 7), rows),
    ):
        with opened(order) as stored:
            groups, *parts = divide(stored, settings)
            train, test = map(places, parts)
        assert not train & test
        assert len(train) + len(test) == groups.n_rows
        drawn.append(test)
    same, reversed_, other_seed = drawn
    assert same == reversed_
    assert len(same) == pytest.approx(0.25 * groups.n_rows, rel=0.05)
    # Two independent draws share a quarter of a quarter.
    assert len(same & other_seed) == pytest.approx(0.25**2 * groups.n_rows, rel=0.15)


def test_the_draw_of_rows_is_the_published_hash(opened: Opened) -> None:
    rows = noisy_rows()
    with opened(rows) as stored:
        groups, _, part = divide(stored, RANDOM)
        test = places(part)
    words = np.random.RandomState(42).randint(2**32, size=len(groups.ids), dtype=np.uint32)
    word_of = dict(zip(groups.ids, words, strict=True))
    counted = rows.loc[~rows["is_warmup"], ["request_id", "token_index"]]
    assert test == {(r, t) for r, t in counted.itertuples(index=False) if _lowbias32(word_of[r] ^ t) < 2**30}


def _lowbias32(x: int) -> int:
    x = int(x)
    x = (x ^ (x >> 16)) * 0x21F0AAAD % 2**32
    x = (x ^ (x >> 15)) * 0xD35A2D97 % 2**32
    return x ^ (x >> 15)


def test_a_draw_of_rows_takes_neither_first_nor_last_tokens(opened: Opened) -> None:
    rows = noisy_rows(400)
    with opened(rows) as stored:
        train, test = ([token for _, token in places(part)] for part in divide(stored, RANDOM)[1:])
    assert np.mean(test) == pytest.approx(np.mean(train), rel=0.05)


def test_too_few_requests(opened: Opened) -> None:
    rows = noisy_rows(2)
    with opened(rows) as stored, pytest.raises(ConfigError, match="1 groups are too few"):
        divide(stored, BY_REQUEST)


def test_rows_of_no_request(opened: Opened) -> None:
    rows = noisy_rows()
    with (
        opened(rows, group="nullif(request_id, 7)") as stored,
        pytest.raises(DatasetError, match="no request"),
    ):
        divide(stored, BY_REQUEST)


def test_whole_requests_are_drawn_until_there_are_enough_rows() -> None:
    groups = Groups(np.arange(100) * 3, np.arange(1, 101))
    drawn = draw_groups(groups, 500, seed=1)
    sizes = drawn.sizes
    assert drawn.n_rows >= 500 > drawn.n_rows - sizes.max()
    assert list(drawn.ids) == sorted(drawn.ids)
    assert all(groups.sizes[groups.ids == i] == n for i, n in zip(drawn.ids, sizes, strict=True))
    np.testing.assert_array_equal(draw_groups(groups, 500, seed=1).ids, drawn.ids)
    assert set(draw_groups(groups, 500, seed=2).ids) != set(drawn.ids)
    assert len(draw_groups(groups, 10**9, seed=1).ids) == 100
    assert len(draw_groups(groups, 0, seed=1).ids) == 1
