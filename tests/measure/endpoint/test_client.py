"""One request and a server that is slow, refuses, cuts or vanishes: what is noted, and what is sent again."""

import json
import shutil
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from scripted_server import DONE, ROLE, Reply, ScriptedServer, chunk, refusal, usage, well_behaved

from llmlat.measure.endpoint.answers import read_answer
from llmlat.measure.endpoint.client import retry_after_s
from llmlat.measure.endpoint.exchange import Outcome


def after_sending_ms(exchange):
    return [(ns - exchange.sent_ns) / 1e6 for ns in exchange.arrival_ns]


def test_an_answer_is_noted_as_it_comes(server, exchange_all):
    server.script = lambda asked, number: Reply(
        [
            (0.05, ROLE),
            (0.1, chunk("a")),
            (0.1, chunk("b")),
            (0, chunk(finish="length") + usage(3, 2) + DONE),
        ]
    )
    (exchange,) = exchange_all()
    assert (exchange.outcome, exchange.status, exchange.failures) == (Outcome.ended, 200, [])
    assert exchange.planned_ns <= exchange.sent_ns <= exchange.first_byte_ns <= exchange.arrival_ns[0]
    assert list(exchange.arrival_ns) == sorted(set(exchange.arrival_ns))
    assert len(exchange.in_flight) == 1 + len(exchange.arrival_ns)
    answer = read_answer(exchange)
    assert (answer.n_tokens, answer.prompt_tokens, answer.is_whole) == ([1, 1], 3, True)
    role, a, b = (after_sending_ms(exchange)[place] for place in (0, *answer.arrivals))
    assert role >= 50
    assert a >= role + 90
    assert b >= a + 50


def test_a_slow_first_byte_is_apart_from_the_first_token(server, exchange_all):
    def slow(asked, number):
        time.sleep(0.2)
        return Reply([(0.1, chunk("a", finish="length"))])

    server.script = slow
    (exchange,) = exchange_all()
    first_byte_ms = (exchange.first_byte_ns - exchange.sent_ns) / 1e6
    assert 200 <= first_byte_ms <= after_sending_ms(exchange)[0] - 20


def test_what_one_read_brings_is_one_arrival_however_it_was_chunked(server, exchange_all):
    server.script = lambda asked, number: Reply(
        [(0.05, [chunk("a"), chunk("b")]), (0.2, [chunk("c") + chunk("d"), chunk("e", finish="length")])]
    )
    (exchange,) = exchange_all()
    assert read_answer(exchange).n_tokens == [2, 3]


def test_a_multibyte_character_may_be_torn_apart(server, exchange_all):
    data = b"data: " + json.dumps({"choices": [{"delta": {"content": "é"}}]}, ensure_ascii=False).encode()
    half = data.index("é".encode()) + 1
    server.script = lambda asked, number: Reply(
        [(0, data[:half]), (0.05, data[half:] + b"\n\n"), (0, chunk(finish="length"))]
    )
    (exchange,) = exchange_all()
    answer = read_answer(exchange)
    assert (answer.n_malformed, answer.n_tokens) == (0, [1])
    assert answer.arrivals[0] >= 1


def test_connections_are_kept_open(server, exchange_all):
    exchange_all(4)
    assert len(server._server.connections) == 1


def test_a_connection_that_is_closed_between_two_requests_is_no_failed_attempt(server, exchange_all):
    """llama.cpp closes each connection after its stream, at times while the next request is on its way."""

    def closing(asked, number):
        whole = well_behaved(asked)
        return Reply(whole.writes, end="closing")

    server.script = closing
    exchanges = exchange_all(6, in_flight=2, retries=0)
    assert [exchange.outcome for exchange in exchanges] == [Outcome.ended] * 6
    assert [exchange.failures for exchange in exchanges] == [[]] * 6
    assert len(server.asked) == 6
    assert len(server._server.connections) == 6
    assert all(sum(read_answer(exchange).n_tokens) == 3 for exchange in exchanges)
    assert all(exchange.planned_ns <= exchange.sent_ns < exchange.first_byte_ns for exchange in exchanges)


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_cut_stream_keeps_what_had_come_and_is_not_sent_again(server, exchange_all, end):
    server.script = lambda asked, number: Reply(
        [(0, ROLE), (0, chunk("a")), (0.1, chunk("b")), (0.1, b"")], end=end
    )
    (exchange,) = exchange_all()
    assert (exchange.outcome, exchange.is_lost) == (Outcome.cut, False)
    assert exchange.error
    answer = read_answer(exchange)
    assert (sum(answer.n_tokens), answer.is_whole) == (2, False)
    assert len(server.asked) == 1


def test_silence_within_a_stream_ends_it(server, exchange_all):
    server.script = lambda asked, number: Reply([(0, chunk("a")), (3, chunk("b"))])
    began = time.perf_counter()
    (exchange,) = exchange_all(read_timeout_s=0.3)
    assert time.perf_counter() - began < 2.5
    assert (exchange.outcome, exchange.error) == (Outcome.cut, "ReadTimeout: silent for 0.3 s")
    assert read_answer(exchange).n_tokens == [1]


def test_too_many_requests_is_asked_again_after_as_long_as_it_says(server, exchange_all):
    server.script = lambda asked, number: (
        refusal(429, "slow down", Retry_After="1") if number == 0 else well_behaved(asked)
    )
    (exchange,) = exchange_all()
    assert (exchange.outcome, exchange.failures) == (Outcome.ended, ["HTTP 429"])
    assert server.at_s[1] - server.at_s[0] >= 1
    # The latency is that of the attempt that was answered; the wait before it is the queue's.
    assert (exchange.sent_ns - exchange.planned_ns) / 1e9 >= 1
    assert after_sending_ms(exchange)[-1] < 900


def test_retries_are_bounded_and_the_last_refusal_stands(server, exchange_all):
    server.script = lambda asked, number: refusal(500, f"broken {number}", Retry_After="0")
    (exchange,) = exchange_all(retries=2)
    assert len(server.asked) == 3
    assert (exchange.outcome, exchange.status, exchange.is_lost) == (Outcome.refused, 500, True)
    assert exchange.failures == ["HTTP 500", "HTTP 500"]
    assert b"broken 2" in exchange.body


def test_a_request_that_is_wrong_is_not_sent_again(server, exchange_all):
    server.script = lambda asked, number: refusal(400, "too long")
    (exchange,) = exchange_all()
    assert (len(server.asked), exchange.is_lost, exchange.is_worth_another) == (1, True, False)


def test_silence_before_the_first_byte_is_no_answer(server, exchange_all):
    def silent(asked, number):
        time.sleep(1)
        return well_behaved(asked)

    server.script = silent
    (exchange,) = exchange_all(read_timeout_s=0.2, retries=1)
    assert (exchange.outcome, exchange.is_lost) == (Outcome.no_answer, True)
    assert exchange.failures == ["ReadTimeout: silent for 0.2 s"]


def test_an_answer_without_a_body_is_asked_again(server, exchange_all):
    server.script = lambda asked, number: Reply(end="reset") if number == 0 else well_behaved(asked)
    (exchange,) = exchange_all()
    assert exchange.outcome is Outcome.ended
    assert len(exchange.failures) == 1


def test_a_server_that_vanishes_ends_what_is_in_flight_and_answers_nothing_more(server, exchange_all):
    def vanish(asked, number):
        if number == 1:
            server.vanish()
        return well_behaved(asked)

    server.script = vanish
    exchanges = exchange_all(3, retries=1)
    assert exchanges[0].outcome is Outcome.ended
    assert exchanges[-1].outcome is Outcome.unreachable
    assert "ConnectError" in exchanges[-1].error
    assert len(exchanges[-1].failures) == 1


def test_the_key_is_a_header_and_nowhere_else(server, exchange_all, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret-of-the-test")
    (exchange,) = exchange_all(api_key_env="A_KEY")
    assert server.headers[0]["Authorization"] == "Bearer secret-of-the-test"
    assert "secret-of-the-test" not in repr(exchange)
    monkeypatch.delenv("A_KEY")
    exchange_all(api_key_env="A_KEY")
    assert "Authorization" not in server.headers[1]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_an_encrypted_stream_is_clocked_too(tmp_path, monkeypatch, exchange_all):
    name = tmp_path / "server"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{name}.crt", f"{name}.key")
    server = ScriptedServer(tls)
    server.script = lambda asked, number: well_behaved(asked, interval_s=0.05)
    try:
        (refused,) = exchange_all(base_url=server.base_url, retries=0)
        assert (refused.outcome, "certificate" in refused.error.lower()) == (Outcome.unreachable, True)
        monkeypatch.setenv("SSL_CERT_FILE", f"{name}.crt")
        first, second = exchange_all(2, base_url=server.base_url)
    finally:
        server.close()
    for exchange in (first, second):
        assert exchange.outcome is Outcome.ended
        assert sum(read_answer(exchange).n_tokens) == 3
        assert 0 < exchange.sent_ns < exchange.first_byte_ns <= exchange.arrival_ns[0]
        assert after_sending_ms(exchange)[-1] >= 150


def test_retry_after_is_seconds_or_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after_s("7") == 7
    assert 28 <= retry_after_s(later) <= 30
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_s("soon") is None
    assert retry_after_s("") is None
