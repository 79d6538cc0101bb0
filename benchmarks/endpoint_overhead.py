"""What measuring a server adds to a token's time: recorded arrivals beside the times when they were sent.

    python benchmarks/endpoint_overhead.py [--tokens 100] [--interval-ms 10] [--requests 48]

A server on the loopback, a process of its own, writes a chunk every so many milliseconds and puts into each
the time at which it did, on the clock that all processes of this machine share. So what is compared is not
what the script asks for but what was really sent. Reported are, at 1 and at 16 requests in flight, how much
later than sent a chunk was noted, and how far a recorded interval between two chunks is off the sent one.

Beside it stand the same loads read by a thread of the process that parses and builds rows, and by its own
event loop, as plain clients do.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from llmlat.measure.cells import Cell
from llmlat.measure.endpoint.answers import read_answer
from llmlat.measure.endpoint.arrival import Load, send
from llmlat.measure.endpoint.client import Client, Job
from llmlat.measure.endpoint.exchange import Exchange
from llmlat.measure.endpoint.reader import Reader
from llmlat.measure.endpoint.rows import RowMaker
from llmlat.measure.endpoint.settings import Endpoint
from llmlat.measure.endpoint.sse import events
from llmlat.measure.prompts import Request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Floats = npt.NDArray[np.float64]


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tokens: int, interval_s: float
) -> None:
    """Answer requests on a connection, a chunk at a time."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        size = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(size)
        writer.write(HEAD)
        due_s = time.perf_counter()
        for index in range(tokens):
            due_s += interval_s
            await asyncio.sleep(due_s - time.perf_counter())
            reason = "length" if index == tokens - 1 else None
            event = {
                "sent_ns": time.perf_counter_ns(),
                "choices": [{"delta": {"content": " token"}, "finish_reason": reason}],
                "usage": {"prompt_tokens": 8, "completion_tokens": index + 1},
            }
            data = b"data: %b\n\n" % json.dumps(event).encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        writer.write(b"0\r\n\r\n")


async def serve(tokens: int, interval_s: float) -> None:
    """Serve until the process is ended, and say on which port."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer, tokens, interval_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def scripted_server(tokens: int, interval_ms: float) -> Iterator[Endpoint]:
    """Run the server beside this process within the block."""
    command = [sys.executable, __file__, "--serve", f"--tokens={tokens}", f"--interval-ms={interval_ms}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Endpoint(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", api_key_env=None)
        finally:
            process.terminate()


def lateness_ms(exchange: Exchange) -> tuple[Floats, Floats]:
    """Return how late each chunk was noted, and how far each interval is off, in milliseconds."""
    arrivals, sent_ns = [], []
    for arrival, data in events(exchange.body, exchange.arrival_end):
        arrivals.append(arrival)
        sent_ns.append(json.loads(data)["sent_ns"])
    noted_ns = np.array(exchange.arrival_ns)[arrivals]
    late = (noted_ns - np.array(sent_ns)) / 1e6
    return late, np.diff(late)


class Parsing:
    """What a measuring process does with an exchange, besides reading the next one."""

    def __init__(self) -> None:
        self._rows = RowMaker(0, 0)

    def take(self, exchange: Exchange) -> None:
        """Parse an exchange and build its rows."""
        request = Request(exchange.request_id, ("prompt",), 0, ((),), 1, Cell("endpoint"))
        found = read_answer(exchange)
        self._rows.rows(request, exchange, found, found.prompt_tokens or 0)


def apart(endpoint: Endpoint, load: Load) -> list[Exchange]:
    """Send a load as llmlat does."""
    parsing, found = Parsing(), []
    with Reader(endpoint) as reader:
        for exchange in reader.send(load):
            parsing.take(exchange)
            found.append(exchange)
    return found


def together(endpoint: Endpoint, load: Load) -> list[Exchange]:
    """Send a load from the event loop that parses, too."""
    parsing, found = Parsing(), []

    def take(exchange: Exchange) -> None:
        parsing.take(exchange)
        found.append(exchange)

    async def run() -> None:
        client = Client(endpoint, take)
        await send(load, client)
        await client.aclose()

    asyncio.run(run())
    return found


def in_a_thread(endpoint: Endpoint, load: Load) -> list[Exchange]:
    """Send a load from a thread, and parse in another one."""
    import queue

    parsing, found, received = Parsing(), [], queue.SimpleQueue()

    async def run() -> None:
        client = Client(endpoint, received.put)
        await send(load, client)
        await client.aclose()
        received.put(None)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    while (exchange := received.get()) is not None:
        parsing.take(exchange)
        found.append(exchange)
    thread.join()
    return found


def describe(exchanges: list[Exchange]) -> str:
    """Return the lateness and the intervals' errors in a line."""
    parts = [lateness_ms(exchange) for exchange in exchanges]
    late, off = (np.concatenate(column) for column in zip(*parts, strict=True))
    late_us, off_us = (
        np.quantile(late * 1e3, [0.5, 0.95, 0.99, 1]),
        np.quantile(abs(off) * 1e3, [0.5, 0.95, 0.99, 1]),
    )
    spelled = [", ".join(f"{value:.0f}" for value in values) for values in (late_us, off_us)]
    return f"late {spelled[0]} µs; interval off by {spelled[1]} µs ({len(late)} chunks)"


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--interval-ms", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.tokens, arguments.interval_ms / 1e3))
        return
    print("median, 95 %, 99 % and most:")
    with scripted_server(arguments.tokens, arguments.interval_ms) as endpoint:
        for in_flight in (1, 16):
            n = arguments.requests if in_flight > 1 else max(arguments.requests // 8, 1)
            load = Load([Job(index, b"{}") for index in range(n)], in_flight)
            for name, way in (("apart", apart), ("thread", in_a_thread), ("together", together)):
                print(f"{in_flight:3} in flight, {name:9} {describe(way(endpoint, load))}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
