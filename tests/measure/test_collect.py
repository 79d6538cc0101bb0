"""The collector, with a scripted clock: every latency is asserted to the nanosecond."""

import gc
import sys
import time
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from llmlat.measure.collect import Collector, RequestBrokenOffError
from llmlat.measure.engines.fake import FakeEngine, FakeState, ScriptedTimer
from llmlat.records import COLUMNS, SCHEMA


def scripted(prompt_tokens: int, token_index: int) -> float:
    """Return a latency with digits down to the nanosecond, different for every step."""
    return 20.000_001 + prompt_tokens * 0.003_7 + token_index * 1.012_345


@pytest.fixture
def timer():
    return ScriptedTimer()


@pytest.fixture
def collector(timer):
    return Collector(FakeEngine(timer, scripted), timer, session_id=3)


@pytest.fixture
def requests(request_of):
    return [request_of(0, 10, 4), request_of(1, 25, 1), request_of(2, 7, 6)]


def collect(collector, requests):
    return [rows for _, rows in collector.run(requests)]


def test_rows_are_requests_times_tokens(collector, requests):
    collected = collect(collector, requests)
    assert [len(rows) for rows in collected] == [4, 1, 6]
    assert [rows["request_id"].unique().tolist() for rows in collected] == [[0], [1], [2]]


def test_latencies_are_exact(collector, requests):
    for request, rows in zip(requests, collect(collector, requests), strict=True):
        expected = [scripted(len(request.token_ids), i) for i in range(request.max_new_tokens)]
        expected = [round(ms * 1e6) / 1e6 for ms in expected]
        assert rows["token_latency_ms"].tolist() == expected


def test_columns_are_those_of_the_schema(collector, requests):
    rows = collect(collector, requests)[0]
    assert rows.columns.tolist() == [column.name for column in COLUMNS]
    written = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
    assert written.schema.equals(SCHEMA)
    for name in set(SCHEMA.names) - {"device_latency_ms"}:
        assert written[name].to_pylist() == rows[name].tolist()
    assert written["device_latency_ms"].null_count == len(rows)


def test_what_a_row_says_about_its_step(collector, requests):
    rows = collect(collector, requests)[2]
    assert rows["token_index"].tolist() == list(range(6))
    assert rows["phase"].tolist() == ["prefill"] + ["decode"] * 5
    assert (rows["prompt_tokens"] == 7).all()
    assert rows["context_length"].tolist() == [7, 8, 9, 10, 11, 12]
    assert (rows["session_id"] == 3).all()
    assert (rows["session_request"] == 2).all()
    assert (rows["prompt_id"] == "prompt-2").all()
    assert (rows["token_id"] == 7).all()
    assert not rows["is_warmup"].any()


def test_no_interval_spans_two_requests(timer, requests):
    class SlowToPrepare(FakeEngine):
        def prepare(self, token_ids, max_new_tokens):
            self.timer.advance(ms=500)
            return super().prepare(token_ids, max_new_tokens)

    collector = Collector(SlowToPrepare(timer, lambda *_: 2.0), timer)
    for _, rows in collector.run(requests):
        timer.advance(ms=1000)  # files, progress and tracking come between requests
        assert (rows["token_latency_ms"] == 2.0).all()
    assert timer.now_ns == (3 * 1500 + 11 * 2) * 10**6


def test_latencies_add_up_to_the_wall_clock(timer, collector, requests):
    before = timer.now_ns
    for request, rows in zip(requests, collect(collector, requests), strict=True):
        nanoseconds = (rows["token_latency_ms"] * 1e6).round().astype(int)
        assert np.diff(rows["completed_at_ns"]).tolist() == nanoseconds[1:].tolist()
        before += nanoseconds.sum()
        assert len(rows) == request.max_new_tokens
    assert timer.now_ns == before


def test_completion_times_are_on_the_calendar(timer, request_of):
    timer.now_ns = time.perf_counter_ns()
    collector = Collector(FakeEngine(timer, lambda *_: 1.0), timer)
    (rows,) = collect(collector, [request_of()])
    assert abs(rows["completed_at_ns"].iloc[0] - time.time_ns()) < 5e9


class Talker(FakeEngine):
    """Generates the ids 100, 101, 102 and so on."""

    def decode_one_token(self, state: FakeState) -> torch.Tensor:
        super().decode_one_token(state)
        return torch.tensor([[99 + state.generated]])


def test_each_row_has_its_own_token(timer, request_of):
    (rows,) = collect(Collector(Talker(timer, scripted), timer), [request_of(max_new_tokens=5)])
    assert rows["token_id"].tolist() == [100, 101, 102, 103, 104]


def test_a_first_visit_is_a_phase_at_a_context_length_that_is_new_to_the_process(collector, request_of):
    # Contexts 10 to 13, then 12 to 15, then 10 to 13 again; the second prefills where the first decoded.
    rows = collect(collector, [request_of(0, 10, 4), request_of(1, 12, 4), request_of(2, 10, 4)])
    assert rows[0]["first_visit"].tolist() == [True, True, True, True]
    assert rows[1]["first_visit"].tolist() == [True, False, True, True]
    assert rows[2]["first_visit"].tolist() == [False, False, False, False]


def test_warm_up_visits_too(collector, request_of):
    assert collector.warm_up(request_of(0, 10, 4), 3)["first_visit"].all()
    (rows,) = collect(collector, [request_of(0, 10, 4)])
    assert rows["first_visit"].tolist() == [False, False, False, True]


@pytest.mark.parametrize(("eos", "kept"), [(102, 3), (100, 1), (104, 5), (999, 5)])
def test_end_of_sequence_stops_a_request_and_keeps_its_row(timer, request_of, eos, kept):
    collector = Collector(Talker(timer, scripted), timer, eos_ids=frozenset({eos, 888}))
    first, second = collect(collector, [request_of(0, max_new_tokens=5), request_of(1, max_new_tokens=5)])
    assert first["token_id"].tolist() == second["token_id"].tolist() == [100, 101, 102, 103, 104][:kept]


def test_without_end_of_sequence_tokens_a_request_runs_to_its_length(timer, request_of):
    (rows,) = collect(Collector(Talker(timer, scripted), timer), [request_of(max_new_tokens=40)])
    assert len(rows) == 40


def test_warm_up_is_marked_and_not_counted(collector, requests):
    warmup = collector.warm_up(requests[1], n_tokens=9)
    assert len(warmup) == 9
    assert warmup["is_warmup"].all()
    assert (warmup["request_id"] == -1).all()
    assert (warmup["prompt_tokens"] == 25).all()
    first, second, _ = collect(collector, requests)
    assert (first["session_request"] == 0).all()
    assert (second["session_request"] == 1).all()


@pytest.mark.parametrize("token", [0, 1, 3])
@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt(), torch.OutOfMemoryError()])
def test_a_request_that_breaks_off_keeps_its_rows(timer, request_of, token, failure):
    def latency_ms(prompt_tokens: int, token_index: int) -> float:
        if prompt_tokens == 12 and token_index == token:
            timer.advance(ms=77)  # time that no completed token took
            raise failure
        return 2.5

    collector = Collector(FakeEngine(timer, latency_ms), timer)
    run = collector.run([request_of(0, 10, 6), request_of(1, 12, 6)])
    next(run)
    with pytest.raises(RequestBrokenOffError) as caught:
        next(run)
    assert caught.value.__cause__ is failure
    assert caught.value.request.request_id == 1
    assert len(caught.value.rows) == token
    assert caught.value.rows["token_index"].tolist() == list(range(token))
    assert (caught.value.rows["token_latency_ms"] == 2.5).all()


def test_a_request_that_cannot_be_prepared_has_no_rows(timer, request_of):
    class Unprepared(FakeEngine):
        def prepare(self, token_ids, max_new_tokens):
            if len(token_ids) == 12:
                raise MemoryError
            return super().prepare(token_ids, max_new_tokens)

    run = Collector(Unprepared(timer, scripted), timer).run([request_of(0, 10), request_of(1, 12)])
    next(run)
    with pytest.raises(RequestBrokenOffError) as caught:
        next(run)
    assert caught.value.rows.empty


class Witness(FakeEngine):
    """Notes at every step what the surroundings are like."""

    def __init__(self, timer: ScriptedTimer, fails: bool = False) -> None:
        super().__init__(timer, lambda *_: 1.0)
        self.fails = fails
        self.collecting: list[bool] = []
        self.recording_gradients: list[bool] = []

    def decode_one_token(self, state: FakeState) -> torch.Tensor:
        self.collecting.append(gc.isenabled())
        self.recording_gradients.append(not torch.is_inference_mode_enabled())
        if self.fails:
            raise RuntimeError
        return super().decode_one_token(state)


def test_no_garbage_collection_and_no_gradients_within_a_request(timer, request_of):
    engine = Witness(timer)
    run = Collector(engine, timer).run([request_of(0), request_of(1)])
    assert gc.isenabled()
    for _ in run:
        assert gc.isenabled()
        assert not torch.is_inference_mode_enabled()
    assert engine.collecting == [False] * 8
    assert engine.recording_gradients == [False] * 8


def test_garbage_collection_comes_back_after_a_failure(timer, request_of):
    with pytest.raises(RequestBrokenOffError):
        next(Collector(Witness(timer, fails=True), timer).run([request_of()]))
    assert gc.isenabled()


def test_garbage_collection_stays_off_for_who_had_it_off(timer, request_of):
    gc.disable()
    try:
        next(Collector(Witness(timer), timer).run([request_of()]))
        assert not gc.isenabled()
    finally:
        gc.enable()


class Untouchable:
    """A token that cannot be looked at: looking would wait for the device."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the timed loop looked at a token: {name}")


class SilentEngine:
    def prepare(self, token_ids, max_new_tokens):
        return None

    def prefill(self, state):
        return Untouchable()

    def decode_one_token(self, state):
        return Untouchable()


class SilentTimer:
    def reset(self, n_steps):
        return None

    def mark(self):
        return None


def calls_of(function: Any, *arguments: Any) -> list[str]:
    """Return the names of everything, Python or C, that a function itself calls."""
    called = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_back is not None and frame.f_back.f_code is function.__code__:
            called.append(frame.f_code.co_name)
        elif event == "c_call" and frame.f_code is function.__code__:
            called.append(argument.__name__)

    sys.setprofile(profile)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return called


def test_nothing_but_the_step_happens_between_two_marks(request_of):
    collector = Collector(SilentEngine(), SilentTimer())
    called = calls_of(Collector._generate, collector, request_of(max_new_tokens=4), [])
    step = ["decode_one_token", "mark", "append"]
    assert called == ["prepare", "reset", "mark", "prefill", "mark", "append", *step, *step, *step]


def test_looking_for_the_end_of_sequence_is_all_that_a_step_adds(timer, request_of):
    collector = Collector(Talker(timer, scripted), timer, eos_ids=frozenset({5}))
    called = calls_of(Collector._generate, collector, request_of(max_new_tokens=3), [])
    step = ["decode_one_token", "mark", "append"]
    assert called == ["prepare", "reset", "mark", "prefill", "mark", "append", *step, *step]
