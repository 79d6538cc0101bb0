"""A scripted server, and what is asked of it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from scripted_server import ScriptedServer, job

from llmlat.measure.cells import Cell
from llmlat.measure.endpoint.arrival import Load, send
from llmlat.measure.endpoint.client import Client
from llmlat.measure.endpoint.exchange import Exchange
from llmlat.measure.endpoint.settings import Endpoint
from llmlat.measure.prompts import Request


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def endpoint_of(server: ScriptedServer) -> Callable[..., Endpoint]:
    """Return a function that makes the settings of the scripted server."""

    def make(**settings: Any) -> Endpoint:
        return Endpoint(**{"base_url": server.base_url, "api_key_env": None, **settings})

    return make


@pytest.fixture
def exchange_all(endpoint_of: Callable[..., Endpoint]) -> Callable[..., list[Exchange]]:
    """Return a function that sends so many requests to the scripted server, in this process."""

    def run(
        n: int = 1, in_flight: int | None = 1, offsets_s: list[float] | None = None, **settings: Any
    ) -> list[Exchange]:
        found: list[Exchange] = []

        async def sent() -> None:
            client = Client(endpoint_of(**settings), found.append)
            try:
                await send(Load([job(index) for index in range(n)], in_flight, offsets_s), client)
            finally:
                await client.aclose()

        asyncio.run(sent())
        return found

    return run


@pytest.fixture
def request_to_server() -> Callable[..., Request]:
    def make(request_id: int = 0, max_new_tokens: int = 4) -> Request:
        return Request(request_id, (f"prompt-{request_id}",), 0, ((),), max_new_tokens, Cell("endpoint"))

    return make


@pytest.fixture
def exchange_of() -> Callable[..., Exchange]:
    """Return a function that makes an exchange of arrivals, each (nanoseconds after sending, bytes)."""

    def make(arrivals: Sequence[tuple[int, bytes]], in_flight: Sequence[int] = (), **fields: Any) -> Exchange:
        exchange = Exchange(**{"request_id": 0, "planned_ns": 1000, "sent_ns": 2000, "status": 200, **fields})
        exchange.first_byte_ns = 2000 + (arrivals[0][0] if arrivals else 0)
        for after_ns, data in arrivals:
            exchange.body += data
            exchange.arrival_ns.append(2000 + after_ns)
            exchange.arrival_end.append(len(exchange.body))
        exchange.in_flight.extend(in_flight or [1] * (1 + len(arrivals)))
        return exchange

    return make
