"""In which order requests are measured, and how often; what cannot be a protocol."""

import pytest

from llmlat.config import CollectConfig, InterleaveConfig
from llmlat.errors import ConfigError
from llmlat.measure.protocol.schedule import (
    check_collect,
    n_repetitions,
    planned,
    repeated,
    wanted_half_width,
)


@pytest.fixture
def single_pass(request_of):
    return [request_of(index) for index in range(12)]


def names(requests):
    return [request.name for request in requests]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_every_cell_is_measured_once_a_block_in_an_order_of_its_own(single_pass, seed):
    requests = planned(single_pass, CollectConfig(repetitions=4), seed)
    blocks = [requests[start : start + 12] for start in range(0, 48, 12)]
    assert [request.request_id for request in requests] == list(range(48))
    for repetition, block in enumerate(blocks):
        assert {request.repetition for request in block} == {repetition}
        assert sorted(names(block)) == sorted(names(single_pass))
    orders = {tuple(names(block)) for block in [*blocks, single_pass]}
    assert len(orders) == 5, "each is drawn anew, and none is the prompt set's"


def test_the_order_is_the_seeds(single_pass):
    def order(seed):
        return names(planned(single_pass, CollectConfig(repetitions=2), seed))

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_a_block_does_not_depend_on_how_many_there_are(single_pass):
    few, many = (planned(single_pass, CollectConfig(repetitions=n), 0) for n in (2, 5))
    assert many[:24] == few


def test_one_pass_in_one_cell_keeps_the_prompt_sets_order(single_pass):
    assert planned(single_pass, CollectConfig(), seed=0) == single_pass


def test_one_pass_over_several_cells_is_shuffled(single_pass):
    collect = CollectConfig(interleave=InterleaveConfig(batch_size=[1, 2]))
    assert names(planned(single_pass, collect, seed=0)) != names(single_pass)


def test_an_interval_takes_three_repetitions(single_pass):
    assert n_repetitions(CollectConfig(until_ci="2%")) == 3
    assert n_repetitions(CollectConfig(until_ci="2%", repetitions=7)) == 7
    assert len(planned(single_pass, CollectConfig(until_ci=0.02), seed=0)) == 36
    assert [r.repetition for r in repeated(single_pass, CollectConfig(until_ci=0.02), 5, 0)] == [5] * 12


@pytest.mark.parametrize(
    ("given", "share"),
    [("2%", 0.02), ("2 %", 0.02), ("0.5%", 0.005), ("0.02", 0.02), (0.02, 0.02), (".5", 0.5), (None, None)],
)
def test_the_width_that_is_asked_for(given, share):
    assert wanted_half_width(CollectConfig(until_ci=given)) == pytest.approx(share)


@pytest.mark.parametrize(
    "given", ["", "%", "two", "2%%", "-2%", "0", "0%", "100%", 2, 1.0, "nan", "1e-2", "2 percent"]
)
def test_a_width_that_is_none(given):
    with pytest.raises(ConfigError, match=r"^collect\.until_ci=.*: use a share of the median, 2% or 0\.02"):
        check_collect(CollectConfig(until_ci=given))


@pytest.mark.parametrize(
    "override",
    [
        "collect.repetitions=0",
        "collect.warmup=-1",
        "collect.warmup=soon",
        "collect.warmup_floor_s=-1",
        "collect.warmup_floor_s=90",
        "collect.warmup_ceiling_s=inf",
        "collect.budget_s=0",
        "collect.budget_s=nan",
        "collect.retries=-1",
        "collect.cool_down_s=-1",
    ],
)
def test_what_cannot_be(compose, override):
    with pytest.raises(ConfigError) as caught:
        check_collect(compose(override).collect)
    assert str(caught.value).startswith(override.partition("=")[0].replace("ceiling", "floor"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["default", "rigorous", "thesis"])
def test_the_shipped_protocols_are_some(compose, option):
    check_collect(compose(f"collect={option}").collect)
