"""From an answer to its rows: one a token, with the latency of the arrival that brought it."""

import pandas as pd
import pyarrow as pa
import pytest
from scripted_server import DONE, ROLE, chunk, sse, usage

from llmlat.measure.endpoint.answers import read_answer
from llmlat.measure.endpoint.exchange import Outcome
from llmlat.measure.endpoint.rows import RowMaker
from llmlat.records import COLUMNS, SCHEMA, TELEMETRY
from llmlat.steps import one_row_a_step

MS = 1_000_000


@pytest.fixture
def maker():
    return RowMaker(session_id=2, epoch_offset_ns=10**15)


@pytest.fixture
def rows_of(maker, exchange_of, request_to_server):
    """Return a function that makes the rows of arrivals, each (milliseconds after sending, bytes)."""

    def make(*arrivals, request_id=0, prompt_tokens=10, in_flight=(), **fields):
        timed = [(round(ms * MS), data) for ms, data in arrivals]
        exchange = exchange_of(timed, in_flight, **{"outcome": Outcome.ended, **fields})
        return maker.rows(request_to_server(request_id), exchange, read_answer(exchange), prompt_tokens)

    return make


WHOLE = (
    (5.0, ROLE),
    (50.0, chunk("a") + chunk("b")),
    (60.0, chunk("c")),
    (60.5, b": ping\n\n"),
    (75.0, chunk("d") + chunk("e") + chunk("f")),
    (75.2, chunk(finish="length") + usage(10, 6) + DONE),
)


def test_a_row_a_token_and_a_latency_an_arrival(rows_of):
    rows = rows_of(*WHOLE, in_flight=[3, 3, 4, 2, 9, 1, 1])
    assert rows["token_index"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["context_length"].tolist() == [10, 11, 12, 13, 14, 15]
    assert rows["token_latency_ms"].tolist() == [50, 50, 10, 15, 15, 15]
    assert rows["phase"].tolist() == ["prefill", "prefill", "decode", "decode", "decode", "decode"]
    assert rows["tokens_in_chunk"].tolist() == [2, 2, 1, 3, 3, 3]
    assert (rows["first_byte_ms"] == 5.0).all()
    assert (rows["queue_ms"] == 0.001).all()
    assert (rows["flags"] == "").all()


def test_in_flight_is_what_was_when_the_step_began(rows_of):
    rows = rows_of(*WHOLE, in_flight=[3, 7, 4, 2, 9, 1, 1])
    # When it was sent; after the arrival of a and b; after that of c.
    assert rows["requests_in_flight"].tolist() == [3, 3, 4, 2, 2, 2]


def test_the_latencies_of_the_steps_add_up_to_the_request(rows_of):
    steps = one_row_a_step(rows_of(*WHOLE))
    assert len(steps) == 3
    assert steps["token_latency_ms"].sum() == 75.0
    assert steps["completed_at_ns"].tolist() == [10**15 + 2000 + ms * MS for ms in (50, 60, 75)]


def test_columns_are_those_of_the_schema_and_what_is_unknown_is_empty(rows_of, maker):
    rows = rows_of(*WHOLE)
    assert rows.columns.tolist() == [column.name for column in COLUMNS]
    assert pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False).schema.equals(SCHEMA)
    unknown = {"padded_context_length", "batch_context_tokens", "device_latency_ms", "token_id"}
    unknown |= {"cached_prompt_tokens"}
    assert set(maker.unknown_columns()) == unknown
    empty = {name for name in rows.columns if rows[name].isna().all()}
    assert empty == unknown | {"top_k", "top_p", "telemetry_age_ms"} | {column.name for column in TELEMETRY}


def test_tokens_that_a_server_lists_are_kept(rows_of, maker):
    def listed(text, ids):
        return sse({"choices": [{"delta": {"content": text}, "token_ids": ids}]})

    rows = rows_of((9, listed("a", [5]) + listed("b", [6])), (11, chunk(finish="length")))
    assert rows["token_id"].tolist() == [5, 6]
    assert "token_id" not in maker.unknown_columns()


def test_a_prompt_that_the_server_remembered_is_told(rows_of, maker):
    counts = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    rows = rows_of((9, chunk("a")), (11, chunk(finish="length", usage=counts)))
    assert rows["cached_prompt_tokens"].tolist() == [8]
    assert "cached_prompt_tokens" not in maker.unknown_columns()


def test_uncounted_chunks_are_one_token_each_and_marked(rows_of, maker):
    rows = rows_of(
        (9, chunk("several words")), (12, chunk("more")), (13, chunk(finish="length") + usage(10, 7))
    )
    assert len(rows) == 2
    assert rows["tokens_in_chunk"].isna().all()
    assert (rows["flags"] == "uncounted_tokens").all()
    assert "tokens_in_chunk" in maker.unknown_columns()


def test_the_rows_of_a_cut_stream_are_kept_and_marked(rows_of):
    rows = rows_of((9, chunk("a")), (12, chunk("b")), outcome=Outcome.cut, error="ReadError: reset")
    assert rows["token_latency_ms"].tolist() == [9, 3]
    assert (rows["flags"] == "cut_stream;uncounted_tokens").all()


def test_malformed_events_and_failed_attempts_mark_the_rows(rows_of):
    rows = rows_of((9, chunk("a")), (10, sse("{")), (12, chunk(finish="length") + usage(10, 1)))
    assert (rows["flags"] == "malformed_stream").all()
    rows = rows_of((9, chunk("a")), (12, chunk(finish="length") + usage(10, 1)), failures=["HTTP 500"] * 2)
    assert (rows["flags"] == "retried").all()
    assert (rows["attempt"] == 3).all()


def test_no_tokens_are_no_rows_with_the_same_types(rows_of):
    empty, whole = rows_of((9, ROLE + chunk(finish="stop"))), rows_of(*WHOLE)
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, whole.dtypes)


def test_first_visits_are_the_first_of_this_process(rows_of):
    first = rows_of(*WHOLE)["first_visit"].tolist()
    again = rows_of(*WHOLE, request_id=1)["first_visit"].tolist()
    longer = rows_of(*WHOLE, request_id=2, prompt_tokens=13)["first_visit"].tolist()
    assert first == [True] * 6
    assert again == [False] * 6
    # 13 and 14 were decoded at, but never a prefill; 15 was; 16 to 18 are new.
    assert longer == [True, True, False, True, True, True]


def test_requests_are_numbered_in_the_order_of_their_ends_and_warm_ups_are_not(rows_of):
    warm_up = rows_of(*WHOLE, request_id=-1)
    assert warm_up["is_warmup"].all()
    assert [rows_of(*WHOLE, request_id=n)["session_request"].iloc[0] for n in (5, 3)] == [0, 1]


def test_chunks_of_two_requests_at_the_same_nanosecond_are_two_steps(rows_of):
    both = pd.concat([rows_of(*WHOLE), rows_of(*WHOLE, request_id=1)], ignore_index=True)
    assert len(one_row_a_step(both)) == 6
