"""How many tokens came with each arrival, and how that is known."""

from pathlib import Path

import pytest
from scripted_server import DONE, ROLE, chunk, sse, usage

from llmlat.measure.endpoint.answers import Counted, read_answer, refusal
from llmlat.measure.endpoint.exchange import Outcome


@pytest.fixture
def read(exchange_of):
    """Return a function that reads an answer of events, one an arrival unless a list of them is given."""

    def answer(*arrivals, outcome=Outcome.ended, **fields):
        whole = [b"".join(part) if isinstance(part, list) else part for part in arrivals]
        timed = [(1000 * (1 + place), data) for place, data in enumerate(whole)]
        return read_answer(exchange_of(timed, outcome=outcome, **fields))

    return answer


@pytest.fixture
def recorded(read):
    """Return a function that reads what a real server sent, each event as an arrival."""

    def answer(name):
        sent = (Path(__file__).parent / "recorded" / f"{name}.sse").read_bytes()
        return read(*(event + b"\n\n" for event in sent.split(b"\n\n") if event))

    return answer


def counts(answer):
    return dict(zip(answer.arrivals, answer.n_tokens, strict=True))


def test_a_final_count_that_agrees_makes_each_event_with_text_a_token(read):
    answer = read(ROLE, chunk("a"), [chunk("b"), chunk("c")], chunk(finish="length"), usage(7, 3), DONE)
    assert counts(answer) == {1: 1, 2: 2}
    assert (answer.is_counted, answer.prompt_tokens, answer.is_whole) == (True, 7, True)


def test_an_end_of_sequence_token_may_be_counted_and_has_no_row(read):
    answer = read(chunk("a"), chunk(finish="stop"), usage(7, 2))
    assert (counts(answer), answer.is_counted) == ({0: 1}, True)
    assert not read(chunk("a"), chunk(finish="length"), usage(7, 2)).is_counted


def test_a_count_that_disagrees_leaves_the_chunks_uncounted(read):
    answer = read(chunk("several words"), chunk("more"), chunk(finish="length"), usage(7, 9))
    assert (counts(answer), answer.is_counted, answer.prompt_tokens) == ({0: 1, 1: 1}, False, 7)


def test_without_any_count_nothing_is_known(read):
    answer = read(chunk("a"), chunk("b", finish="length"), DONE)
    assert (answer.is_counted, answer.prompt_tokens) == (False, None)


def test_a_running_count_tells_tokens_without_text_and_several_in_one(read):
    def counted(text, n):
        return chunk(text, usage={"prompt_tokens": 7, "completion_tokens": n})

    answer = read(counted("", 0), counted("a", 1), counted("", 2), counted("bc", 5), chunk(finish="length"))
    assert counts(answer) == {1: 1, 2: 1, 3: 3}
    assert answer.is_counted


def test_listed_tokens_are_counted_and_kept(read):
    def listed(text, ids):
        return sse({"choices": [{"delta": {"content": text}, "token_ids": ids, "finish_reason": None}]})

    answer = read(listed("a", [5]), listed("bc", [6, 7]), chunk(finish="length"), usage(7, 3))
    assert (counts(answer), answer.is_counted, answer.token_ids) == ({0: 1, 1: 2}, True, [5, 6, 7])


@pytest.mark.parametrize("listed", [{"content": [{}, {}]}, {"tokens": ["a", "b"]}])
def test_log_probabilities_count_tokens_too(read, listed):
    event = sse({"choices": [{"text": "ab", "logprobs": listed, "finish_reason": "length"}]})
    answer = read(event)
    assert (counts(answer), answer.is_counted, answer.token_ids) == ({0: 2}, True, None)


def test_what_llama_cpp_sends_is_counted_by_its_timings(recorded):
    """Half a character is held back until the other half has come: the seventh token's chunk brings two."""
    answer = recorded("llama_cpp")
    assert (answer.counted_by, answer.n_tokens) == (Counted.running, [1, 1, 1, 1, 1, 2, 1])
    assert (answer.prompt_tokens, answer.cached_prompt_tokens, answer.is_whole) == (16, 4, True)


def test_what_vllm_sends_when_it_guesses_ahead_is_counted_by_its_usage(recorded):
    answer = recorded("vllm_speculative")
    assert (answer.counted_by, sum(answer.n_tokens), answer.is_whole) == (Counted.running, 12, True)
    assert max(answer.n_tokens) > 1


def test_what_mlx_sends_is_counted_at_the_end(recorded):
    """Comments while it reads the prompt, the role in every chunk, and no count before the last one."""
    answer = recorded("mlx")
    assert (answer.counted_by, answer.n_tokens) == (Counted.final, [1] * 4)
    assert (answer.prompt_tokens, answer.cached_prompt_tokens, answer.n_malformed) == (20, 4, 0)


def test_a_token_that_ends_a_thought_and_begins_the_answer_is_counted_once(read):
    """llama.cpp makes two events of it, and counts in the second."""
    thought = sse({"choices": [{"delta": {"reasoning_content": "so"}, "finish_reason": None}]})
    answer = read(
        chunk("a", timings={"predicted_n": 1}),
        [thought, chunk("b", timings={"predicted_n": 2})],
        chunk(finish="length"),
    )
    assert (counts(answer), answer.counted_by) == ({0: 1, 1: 1}, Counted.running)


@pytest.mark.parametrize("where", ["content", "reasoning_content", "reasoning"])
def test_thoughts_are_tokens(read, where):
    event = sse({"choices": [{"delta": {where: "hm"}, "finish_reason": "length"}]})
    assert counts(read(event, usage(1, 1))) == {0: 1}


def test_a_server_that_sends_no_done_is_whole_where_it_gives_a_reason(read):
    assert read(chunk("a"), chunk(finish="length")).is_whole
    assert not read(chunk("a"), chunk("b")).is_whole


def test_a_server_that_gives_reasons_and_gives_none_has_broken_off(read):
    """llama-cpp-python does when another request comes; a server that never gives one does not."""
    broken_off = read(chunk("a"), DONE)
    assert (broken_off.is_whole, broken_off.error) == (False, "it ended without a finish_reason")
    assert read(sse({"choices": [{"delta": {"content": "a"}}]}), DONE).is_whole


def test_a_connection_that_broke_leaves_what_had_come(read):
    answer = read(chunk("a"), chunk("b"), outcome=Outcome.cut, error="ReadError: reset")
    assert (counts(answer), answer.is_whole, answer.error) == ({0: 1, 1: 1}, False, "ReadError: reset")


def test_a_connection_that_breaks_after_the_reason_cuts_nothing(read):
    answer = read(
        chunk("a"), chunk(finish="length") + usage(7, 1), outcome=Outcome.cut, error="ReadError: reset"
    )
    assert (answer.is_whole, answer.is_counted) == (True, True)


def test_an_error_within_a_stream_ends_it(read):
    said = sse({"error": {"message": "the engine\ndied", "code": 500}})
    answer = read(chunk("a"), said)
    assert (counts(answer), answer.is_whole, answer.error) == ({0: 1}, False, "the engine died")


@pytest.mark.parametrize(
    "event",
    [
        "{not json", "[1]", '"text"', '{"choices": 3}', '{"choices": [5]}', '{"choices": [{"delta": 5}]}',
        '{"choices": [{"delta": {}, "logprobs": 5}]}', '{"usage": [1]}',
        '{"usage": {"prompt_tokens_details": 3}}', '{"choices": {"a": 1}}',
        '{"choices": [{"token_ids": ["a"]}]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_malformed_events_are_counted_and_passed_over(read, event):
    answer = read(chunk("a"), sse(event), chunk("b"), chunk(finish="length"), usage(7, 2))
    assert (counts(answer), answer.n_malformed, answer.is_whole) == ({0: 1, 2: 1}, 1, True)
    assert read(chunk("a"), chunk(finish="length"), sse(event)).n_malformed == 1


@pytest.mark.parametrize("count", [-1, 10**30, 1.5, "3", True])
def test_a_count_that_can_be_none_is_not_believed(read, count):
    counts = {"prompt_tokens": count, "completion_tokens": count}
    answer = read(chunk("a", usage=counts), chunk(finish="length", usage=counts))
    assert (answer.n_tokens, answer.is_counted, answer.prompt_tokens) == ([1], False, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "too long"}}', "HTTP 400: too long"),
        (b'{"message": "too\\nlong."}', "HTTP 400: too long"),
        (b'{"detail": [{"loc": 1}]}', 'HTTP 400: [{"loc": 1}]'),
        (b"<html>Bad\n gateway</html>", "HTTP 400: <html>Bad gateway</html>"),
        (b"", "HTTP 400"),
        (b"x" * 9999, f"HTTP 400: {'x' * 300}"),
    ],
)
def test_a_refusal_is_one_line(exchange_of, body, said):
    assert refusal(exchange_of([], body=body, error="HTTP 400")) == said
