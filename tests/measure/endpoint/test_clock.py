"""When bytes came is when the event loop handed them over, not when somebody read them."""

import asyncio
import time

import httpcore
import pytest

from llmlat.measure.endpoint.clock import ClockedStream, ClosedBetweenRequestsError, Inbox


class Transport:
    def __init__(self):
        self.written = []

    def write(self, data):
        self.written.append(data)


def in_a_loop(test):
    async def run():
        inbox = Inbox()
        await test(ClockedStream(Transport(), inbox), inbox)

    return lambda: asyncio.run(run())


@in_a_loop
async def test_the_clock_is_read_before_anybody_reads(stream, inbox):
    before = time.perf_counter_ns()
    inbox.data_received(b"ab")
    between = time.perf_counter_ns()
    inbox.data_received(b"cd")
    time.sleep(0.01)
    after = time.perf_counter_ns()
    assert await stream.read(100) == b"ab"
    assert before <= stream.arrived_ns <= between
    assert await stream.read(100) == b"cd"
    assert between <= stream.arrived_ns <= after - 9_000_000


@in_a_loop
async def test_what_is_read_in_parts_came_together(stream, inbox):
    inbox.data_received(b"abcd")
    assert await stream.read(3) == b"abc"
    came = stream.arrived_ns
    assert await stream.read(3) == b"d"
    assert stream.arrived_ns == came


@in_a_loop
async def test_a_request_begins_with_its_first_write_and_its_answer_with_the_first_read(stream, inbox):
    await stream.write(b"head")
    sent = stream.sent_ns
    await stream.write(b"body")
    inbox.data_received(b"a")
    inbox.data_received(b"b")
    await stream.read(1)
    first = stream.first_byte_ns
    await stream.read(1)
    assert 0 < sent == stream.sent_ns < first == stream.first_byte_ns < stream.arrived_ns
    await stream.write(b"next")
    assert stream.sent_ns > first


@in_a_loop
async def test_silence_the_end_and_a_broken_connection_are_told_apart(stream, inbox):
    with pytest.raises(httpcore.ReadTimeout, match=r"silent for 0\.01 s"):
        await stream.read(1, timeout=0.01)
    assert not stream.get_extra_info("is_readable")
    inbox.data_received(b"a")
    inbox.eof_received()
    assert await stream.read(9) == b"a"
    assert await stream.read(9) == b""
    assert stream.get_extra_info("is_readable")
    with pytest.raises(httpcore.WriteError):
        await stream.write(b"more")


@pytest.mark.parametrize("is_seen", [False, True])
def test_the_end_between_two_requests_is_told_apart(is_seen):
    """It comes before the next request is written, or after."""

    @in_a_loop
    async def check(stream, inbox):
        await stream.write(b"first")
        inbox.data_received(b"answer")
        await stream.read(9)
        if is_seen:
            inbox.eof_received()
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"second")
        else:
            await stream.write(b"second")
            inbox.connection_lost(ConnectionResetError("reset by peer"))
        with pytest.raises(ClosedBetweenRequestsError):
            await stream.read(9)

    check()


@in_a_loop
async def test_the_end_after_a_first_request_is_no_such(stream, inbox):
    await stream.write(b"first")
    inbox.eof_received()
    assert await stream.read(9) == b""


@in_a_loop
async def test_a_connection_that_is_reset_is_an_error(stream, inbox):
    inbox.connection_lost(ConnectionResetError("reset by peer"))
    with pytest.raises(httpcore.ReadError, match="reset by peer"):
        await stream.read(9)


@in_a_loop
async def test_a_writer_waits_for_the_network_and_not_for_ever(stream, inbox):
    inbox.pause_writing()
    with pytest.raises(httpcore.WriteTimeout):
        await stream.write(b"much", timeout=0.01)
    asyncio.get_running_loop().call_later(0.01, inbox.resume_writing)
    await stream.write(b"more", timeout=5)
