"""The collector, with a scripted clock: every latency is asserted to the nanosecond."""

import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector, RequestBrokenOffError
from llmlat.measure.decoding import Sampler, make_decoder
from llmlat.measure.engines.fake import FakeEngine, ScriptedDecoder, ScriptedTimer
from llmlat.records import COLUMNS, SCHEMA, SERVED, TELEMETRY

pytestmark = pytest.mark.usefixtures("quick_requests")


def scripted(prompt_tokens: int, token_index: int) -> float:
    """Return a latency with digits down to the nanosecond, different for every step."""
    return 20.000_001 + prompt_tokens * 0.003_7 + token_index * 1.012_345


@pytest.fixture
def timer():
    return ScriptedTimer()


@pytest.fixture
def engine(timer):
    return FakeEngine(timer, scripted)


@pytest.fixture
def collector(timer):
    return Collector(timer, session_id=3)


@pytest.fixture
def requests(request_of):
    return [request_of(0, 10, 4), request_of(1, 25, 1), request_of(2, 7, 6)]


def collect(collector, engine, requests):
    return [collector.measure(request, engine, engine.decoder) for request in requests]


def test_rows_are_requests_times_tokens(collector, engine, requests):
    collected = collect(collector, engine, requests)
    assert [len(rows) for rows in collected] == [4, 1, 6]
    assert [rows["request_id"].unique().tolist() for rows in collected] == [[0], [1], [2]]


def test_latencies_are_exact(collector, engine, requests):
    for request, rows in zip(requests, collect(collector, engine, requests), strict=True):
        expected = [scripted(request.prompt_tokens, i) for i in range(request.max_new_tokens)]
        expected = [round(ms * 1e6) / 1e6 for ms in expected]
        assert rows["token_latency_ms"].tolist() == expected


def test_columns_are_those_of_the_schema(collector, engine, requests):
    rows = collect(collector, engine, requests)[0]
    assert rows.columns.tolist() == [column.name for column in COLUMNS]
    written = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
    assert written.schema.equals(SCHEMA)
    empty = {"device_latency_ms", "top_k", "top_p", "telemetry_age_ms"}
    empty |= {column.name for column in (*SERVED, *TELEMETRY)}
    for name in set(SCHEMA.names) - empty:
        assert written[name].to_pylist() == rows[name].tolist()
    for name in empty:
        assert written[name].null_count == len(rows)


def test_what_a_row_says_about_its_step(collector, engine, requests):
    rows = collect(collector, engine, requests)[2]
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
        def prepare(self, prompts, max_new_tokens):
            self.timer.advance(ms=500)
            return super().prepare(prompts, max_new_tokens)

    engine, collector = SlowToPrepare(timer, lambda *_: 2.0), Collector(timer)
    for request in requests:
        rows = collector.measure(request, engine, engine.decoder)
        timer.advance(ms=1000)  # files, progress and tracking come between requests
        assert (rows["token_latency_ms"] == 2.0).all()
    assert timer.now_ns == (3 * 1500 + 11 * 2) * 10**6


def test_latencies_add_up_to_the_wall_clock(timer, collector, engine, requests):
    before = timer.now_ns
    for request, rows in zip(requests, collect(collector, engine, requests), strict=True):
        nanoseconds = (rows["token_latency_ms"] * 1e6).round().astype(int)
        assert np.diff(rows["completed_at_ns"]).tolist() == nanoseconds[1:].tolist()
        before += nanoseconds.sum()
        assert len(rows) == request.max_new_tokens
    assert timer.now_ns == before


def test_completion_times_are_on_the_calendar(timer, request_of):
    timer.now_ns = time.perf_counter_ns()
    (rows,) = collect(Collector(timer), FakeEngine(timer, lambda *_: 1.0), [request_of()])
    assert abs(rows["completed_at_ns"].iloc[0] - time.time_ns()) < 5e9


def counting_up(sequence: int, step: int) -> int:
    """Return the ids 100, 101, 102 and so on, and 200, 201, 202 for the next sequence."""
    return 100 * (sequence + 1) + step


def test_each_row_has_its_own_token(timer, request_of):
    engine = FakeEngine(timer, scripted, ScriptedDecoder(counting_up))
    (rows,) = collect(Collector(timer), engine, [request_of(max_new_tokens=5)])
    assert rows["token_id"].tolist() == [100, 101, 102, 103, 104]


def test_a_first_visit_is_a_phase_at_a_context_length_new_to_the_process(collector, engine, request_of):
    # Contexts 10 to 13, then 12 to 15, then 10 to 13 again; the second prefills where the first decoded.
    requests = [request_of(0, 10, 4), request_of(1, 12, 4), request_of(2, 10, 4)]
    rows = collect(collector, engine, requests)
    assert rows[0]["first_visit"].tolist() == [True, True, True, True]
    assert rows[1]["first_visit"].tolist() == [True, False, True, True]
    assert rows[2]["first_visit"].tolist() == [False, False, False, False]


def test_another_batch_or_engine_is_a_first_visit(collector, engine, request_of, batch_of):
    alone = request_of(0, 10, 4)
    beams = batch_of([10], Cell("eager", num_beams=2))
    others = [beams, batch_of([10, 7], Cell("eager")), replace(alone, cell=Cell("other"))]
    first = collect(collector, engine, [alone])[0]
    assert first["first_visit"].all()
    assert [rows["first_visit"].all() for rows in collect(collector, engine, others)] == [True, False, True]
    # Two beams of one prompt and two prompts padded to the same length are the same shape.
    assert not collect(collector, engine, [*others, alone])[-1]["first_visit"].any()


def test_warm_up_visits_too(collector, engine, request_of):
    assert collector.warm_up(request_of(0, 10, 4), 3, engine, engine.decoder)["first_visit"].all()
    (rows,) = collect(collector, engine, [request_of(0, 10, 4)])
    assert rows["first_visit"].tolist() == [False, False, False, True]


STOPPING = Cell("eager", stop_at_eos=True)


@pytest.mark.parametrize(("eos", "kept"), [(102, 3), (100, 1), (104, 5), (999, 5)])
def test_end_of_sequence_stops_a_request_and_keeps_its_row(timer, batch_of, eos, kept):
    engine = FakeEngine(timer, scripted, ScriptedDecoder(counting_up, eos_ids=(eos, 888)))
    requests = [batch_of([10], STOPPING, request_id=i, max_new_tokens=5) for i in range(2)]
    first, second = collect(Collector(timer), engine, requests)
    assert first["token_id"].tolist() == second["token_id"].tolist() == [100, 101, 102, 103, 104][:kept]


def test_a_batch_goes_on_until_its_last_sequence_ends(timer, batch_of):
    engine = FakeEngine(timer, scripted, ScriptedDecoder(counting_up, eos_ids=(101, 203, 300)))
    (rows,) = collect(Collector(timer), engine, [batch_of([10, 12, 11], STOPPING, max_new_tokens=9)])
    tokens = rows.groupby("sequence_index")["token_id"].apply(list)
    assert tokens.tolist() == [[100, 101], [200, 201, 202, 203], [300]]
    longest = rows[rows["sequence_index"] == 1]
    assert longest["batch_context_tokens"].tolist() == [10 + 12 + 11, 11 + 13, 14, 15]
    # The longest sequence has every step, so its latencies add up to the request's time.
    assert round(longest["token_latency_ms"].sum() * 1e6) == timer.now_ns


def test_without_end_of_sequence_tokens_a_request_runs_to_its_length(collector, engine, request_of):
    (rows,) = collect(collector, engine, [request_of(max_new_tokens=40)])
    assert len(rows) == 40


def test_draws_are_seeded_by_seed_and_request(timer, request_of):
    def drawn(request_id: int, seed: int) -> list[int]:
        engine = FakeEngine(timer, scripted, Sampler(1.0))
        request = request_of(request_id, max_new_tokens=20)
        return Collector(timer, seed=seed).measure(request, engine, engine.decoder)["token_id"].tolist()

    once = drawn(request_id=4, seed=1)
    assert drawn(request_id=4, seed=1) == once, "a resumed request draws what it drew before"
    assert drawn(request_id=5, seed=1) != once
    assert drawn(request_id=4, seed=2) != once


def test_warm_up_is_marked_and_not_counted(collector, engine, requests):
    warmup = collector.warm_up(requests[1], 9, engine, engine.decoder)
    assert len(warmup) == 9
    assert warmup["is_warmup"].all()
    assert (warmup["request_id"] == -1).all()
    assert (warmup["prompt_tokens"] == 25).all()
    first, second, _ = collect(collector, engine, requests)
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

    collector, engine = Collector(timer), FakeEngine(timer, latency_ms)
    collect(collector, engine, [request_of(0, 10, 6)])
    with pytest.raises(RequestBrokenOffError) as caught:
        collect(collector, engine, [request_of(1, 12, 6)])
    assert caught.value.__cause__ is failure
    assert caught.value.request.request_id == 1
    assert len(caught.value.rows) == token
    assert caught.value.rows["token_index"].tolist() == list(range(token))
    assert (caught.value.rows["token_latency_ms"] == 2.5).all()


def test_a_request_that_cannot_be_prepared_has_no_rows(timer, request_of):
    class Unprepared(FakeEngine):
        def prepare(self, prompts, max_new_tokens):
            if len(prompts[0]) == 12:
                raise MemoryError
            return super().prepare(prompts, max_new_tokens)

    collector, engine = Collector(timer), Unprepared(timer, scripted)
    collect(collector, engine, [request_of(0, 10)])
    with pytest.raises(RequestBrokenOffError) as caught:
        collect(collector, engine, [request_of(1, 12)])
    assert caught.value.rows.empty
    assert caught.value.rows.columns.tolist() == [column.name for column in COLUMNS]
    assert (caught.value.rows.dtypes == collect(collector, engine, [request_of(0, 10)])[0].dtypes).all()


@pytest.mark.parametrize("completed", [0, 1, 2])
@pytest.mark.parametrize("num_beams", [1, 2])
def test_a_batch_that_breaks_off_keeps_its_completed_steps(timer, batch_of, num_beams, completed):
    class BrokenTimer(ScriptedTimer):
        """Fails at a mark, when the step's token has been chosen already."""

        def mark(self) -> None:
            if len(self._marks) == completed + 1:
                raise KeyboardInterrupt
            super().mark()

    cell = Cell("eager", num_beams=num_beams)
    engine = FakeEngine(timer, scripted, make_decoder(cell, torch.device("cpu")))
    with pytest.raises(RequestBrokenOffError) as caught:
        collect(Collector(BrokenTimer()), engine, [batch_of([10, 7], cell, max_new_tokens=3)])
    assert caught.value.rows["token_index"].tolist() == [*range(completed), *range(completed)]
    assert caught.value.rows["token_id"].notna().all()
