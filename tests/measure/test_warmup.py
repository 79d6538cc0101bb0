"""The warm-up with a scripted clock: its end, its floor and its ceiling, in the time of the rows."""

import pytest

from llmlat.config import CollectConfig
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector, set_aside_from_garbage_collection
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines.fake import FakeEngine, ScriptedTimer
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.warmup import fixed, settle

WARMUP = CollectConfig(warmup="auto", warmup_floor_s=2.0, warmup_ceiling_s=60.0)


@pytest.fixture(autouse=True)
def quick_collections():
    """As in a session: looking through all of torch before every pass would take most of the time."""
    with set_aside_from_garbage_collection():
        yield


class Warming:
    """A fake engine whose latency depends on its clock, or on how many steps it has made."""

    def __init__(self, latency_ms):
        self.timer = ScriptedTimer()
        self.n_steps = 0
        self.passes = []

        def latency(prompt_tokens, token_index):
            self.n_steps += 1
            # A little of everything a real one has: noise that repeats, and a spike once in a hundred.
            noise = 1 + 0.01 * ((self.n_steps * 7919) % 11 - 5) / 5
            return latency_ms(self) * noise * (10 if self.n_steps % 100 == 99 else 1)

        self.engine = FakeEngine(self.timer, latency)
        self.collector = Collector(self.timer)

    def settle(self, max_new_tokens=64, collect=WARMUP):
        request = Request(3, ("p",), 0, ((1, 2, 3),), max_new_tokens, Cell("eager"))

        def generate(n_tokens):
            self.passes.append(n_tokens)
            return self.collector.warm_up(request, n_tokens, self.engine, Greedy())

        return settle(generate, collect, max_new_tokens)


@pytest.mark.parametrize("end", [40, 64, 75, 90])
def test_an_injected_slow_start_is_found_and_its_end_is_right(end):
    warming = Warming(lambda w: 50 if w.n_steps <= end else 20)
    rows, warm_up = warming.settle()
    assert warm_up.settled is True
    assert abs(warm_up.settled_after_tokens - end) <= 6
    assert warm_up.start_ratio == pytest.approx(2.5, rel=0.05)
    assert warm_up.n_tokens == len(rows) == warming.n_steps
    assert rows["is_warmup"].all()
    assert (rows["request_id"] == -1).all()


def test_the_seconds_are_those_of_the_rows():
    warming = Warming(lambda w: 20)
    rows, warm_up = warming.settle()
    assert warm_up.seconds == pytest.approx(warming.timer.now_ns / 1e9, abs=1e-6)
    assert warm_up.seconds == pytest.approx(rows["token_latency_ms"].sum() / 1e3)


def test_the_first_pass_is_a_first_visit_and_no_slow_start():
    _, warm_up = Warming(lambda w: 53 if w.n_steps <= 32 else 20).settle()
    assert warm_up.settled
    assert warm_up.start_ratio == pytest.approx(1, abs=0.02)
    assert warm_up.first_visit_ratio == pytest.approx(53 / 20, rel=0.02)


@pytest.mark.parametrize("floor_s", [0.5, 2.0, 7.0])
def test_the_floor_is_kept_and_not_much_more(floor_s):
    collect = CollectConfig(warmup="auto", warmup_floor_s=floor_s, warmup_ceiling_s=60.0)
    _, warm_up = Warming(lambda w: 4).settle(collect=collect)
    assert warm_up.settled
    assert floor_s <= warm_up.seconds <= 1.3 * floor_s + 0.5


def test_drift_that_never_settles_reaches_the_ceiling():
    warming = Warming(lambda w: 20 * 1.0005**w.n_steps)
    collect = CollectConfig(warmup="auto", warmup_floor_s=2.0, warmup_ceiling_s=15.0)
    _, warm_up = warming.settle(collect=collect)
    assert warm_up.settled is False
    assert warm_up.settled_after_tokens is None
    assert warm_up.start_ratio is None
    longest_pass = 32 * 20 * 1.0005**warming.n_steps / 1e3 + 2
    assert 15 <= warm_up.seconds <= 15 + longest_pass


def test_a_model_so_slow_that_nothing_can_be_judged():
    warming = Warming(lambda w: 1500)
    _, warm_up = warming.settle()
    assert warm_up.settled is False
    assert len(warming.passes) == 2


@pytest.mark.parametrize(("max_new_tokens", "longest"), [(1, 1), (5, 5), (32, 32), (500, 32)])
def test_a_pass_is_no_longer_than_the_request_and_short(max_new_tokens, longest):
    warming = Warming(lambda w: 20)
    _, warm_up = warming.settle(max_new_tokens)
    assert set(warming.passes) == {longest}
    assert warm_up.settled


def test_judging_does_not_grow_with_every_pass(monkeypatch):
    from llmlat.measure.protocol import warmup

    judged = []
    monkeypatch.setattr(warmup, "judge", lambda steps, floor_s: judged.append(len(steps)))
    collect = CollectConfig(warmup="auto", warmup_floor_s=0.0, warmup_ceiling_s=0.4)
    warming = Warming(lambda w: 0.2)
    warming.settle(collect=collect)
    assert len(warming.passes) > 50
    assert len(judged) < 35
    assert judged[-1] == warming.n_steps, "the last word is on all of them"


def test_a_fixed_number_of_tokens_is_not_judged():
    warming = Warming(lambda w: 20)
    request = Request(3, ("p", "q"), 0, ((1, 2, 3), (4, 5)), 64, Cell("eager", batch_size=2))
    warm_up = fixed(warming.collector.warm_up(request, 16, warming.engine, Greedy()), 16)
    assert (warm_up.rule, warm_up.n_tokens, warm_up.settled) == ("16 tokens", 16, None)
    assert warm_up.seconds == pytest.approx(warming.timer.now_ns / 1e9, abs=1e-6)
