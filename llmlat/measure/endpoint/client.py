"""One request to the server: what came back, and when. Nothing is read into it here.

Bytes are kept as they come, beside the clock; what they mean is found out elsewhere (`answers`), so that one
request's parsing is never on another one's clock. That is why no reader of server-sent events stands here
(httpx-sse, the openai package): each decodes between the socket and whoever would note the time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpcore
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from llmlat.errors import one_line
from llmlat.measure.endpoint.clock import ClockedBackend, ClosedBetweenRequestsError
from llmlat.measure.endpoint.exchange import Exchange, Outcome
from llmlat.measure.endpoint.settings import Endpoint

LONGEST_WAIT_S = 60.0
MOST_OF_AN_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True)
class Job:
    """A request as it is sent.

    Attributes
    ----------
    request_id : int
    body : bytes
        JSON.
    """

    request_id: int
    body: bytes


class Client:
    """Sends requests to one server, over connections that stay open.

    Parameters
    ----------
    endpoint : Endpoint
    emit : callable
        Is handed every exchange that has ended.
    """

    def __init__(self, endpoint: Endpoint, emit: Callable[[Exchange], None]) -> None:
        self._endpoint = endpoint
        self._emit = emit
        self._url, self._headers = endpoint.url, headers(endpoint)
        self._timeout = {
            "connect": endpoint.connect_timeout_s,
            "write": endpoint.read_timeout_s,
            "read": endpoint.read_timeout_s,
        }
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=None, max_keepalive_connections=None, network_backend=ClockedBackend()
        )
        self._in_flight = 0

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def ask(self, job: Job, planned_ns: int) -> None:
        """Send a request until it is answered, or `engine.retries` times again; emit how it ended."""
        failures: list[str] = []
        retrying = AsyncRetrying(
            **retries(self._endpoint, lambda exchange: exchange.is_worth_another),
            before_sleep=lambda state: failures.append(_exchange(state).error),
        )
        exchange: Exchange = await retrying(self._attempt, job, planned_ns, failures)
        self._emit(exchange)

    async def _attempt(self, job: Job, planned_ns: int, failures: list[str]) -> Exchange:
        exchange = Exchange(job.request_id, planned_ns, failures=list(failures))
        self._in_flight += 1
        exchange.in_flight.append(self._in_flight)
        parts: list[bytes] = []
        try:
            await self._exchange_on_open_connection(job, exchange, parts)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            exchange.outcome, exchange.error = Outcome.unreachable, _told(error)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            exchange.outcome = Outcome.cut if exchange.status == 200 else Outcome.no_answer
            exchange.error = _told(error)
        except asyncio.CancelledError:
            exchange.outcome, exchange.body = Outcome.interrupted, b"".join(parts)
            self._emit(exchange)
            raise
        finally:
            self._in_flight -= 1
        exchange.body = b"".join(parts)
        return exchange

    async def _exchange_on_open_connection(self, job: Job, exchange: Exchange, parts: list[bytes]) -> None:
        """Send and receive, over another connection where a kept one turns out to be closed.

        llama.cpp closes every connection after its stream, and others do after some seconds or requests; a
        request that is sent just then is lost with it (RFC 9112, section 9.5). That is no failed attempt.
        """
        while True:
            try:
                return await self._exchange(job, exchange, parts)
            except ClosedBetweenRequestsError:
                exchange.in_flight[0] = self._in_flight  # each round uses a kept connection up

    async def _exchange(self, job: Job, exchange: Exchange, parts: list[bytes]) -> None:
        """Send and receive. Between chunks there is nothing here but the clock."""
        arrival_ns, arrival_end, in_flight = exchange.arrival_ns, exchange.arrival_end, exchange.in_flight
        size = 0
        extensions = {"timeout": self._timeout}
        async with self._pool.stream(
            "POST", self._url, headers=self._headers, content=job.body, extensions=extensions
        ) as response:
            stream = response.extensions["network_stream"]
            exchange.sent_ns, exchange.first_byte_ns = stream.sent_ns, stream.first_byte_ns
            exchange.status = response.status
            if response.status != 200:
                await _read_refusal(response, exchange, parts)
                return
            async for part in response.aiter_stream():
                parts.append(part)
                size += len(part)
                if arrival_ns and arrival_ns[-1] == stream.arrived_ns:
                    arrival_end[-1] = size
                    continue
                arrival_ns.append(stream.arrived_ns)
                arrival_end.append(size)
                in_flight.append(self._in_flight)
        exchange.outcome = Outcome.ended


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def headers(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Return the headers of a request; the key is among them where the environment has one."""
    key = endpoint.api_key()
    return [
        ("Content-Type", "application/json"),
        ("Accept", "text/event-stream"),
        # A compressed stream would be unpacked in blocks, and come late.
        ("Accept-Encoding", "identity"),
        ("User-Agent", "llmlat"),
        *([("Authorization", f"Bearer {key}")] if key else []),
    ]


async def _read_refusal(response: httpcore.Response, exchange: Exchange, parts: list[bytes]) -> None:
    exchange.outcome, exchange.error = Outcome.refused, f"HTTP {response.status}"
    async for part in response.aiter_stream():
        parts.append(part)
        if sum(map(len, parts)) > MOST_OF_AN_ERROR_BYTES:
            break
    sent = {name.lower(): value for name, value in response.headers}
    exchange.retry_after_s = retry_after_s(sent.get(b"retry-after", b"").decode("latin-1"))


def retry_after_s(value: str) -> float | None:
    """Return how many seconds a Retry-After header asks to wait: it holds a number, or a date (RFC 9110)."""
    try:
        if value.strip().isdigit():
            return float(value)
        until = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    now = datetime.now(UTC) if until.tzinfo else datetime.now(UTC).replace(tzinfo=None)
    return max((until - now).total_seconds(), 0.0)


_backoff = wait_exponential(multiplier=0.5, max=LONGEST_WAIT_S) + wait_random(0, 0.25)


def retries(endpoint: Endpoint, is_worth_another: Callable[[Exchange], bool]) -> dict[str, Any]:
    """Return how often an exchange is tried again, and after how long: what tenacity is told."""
    return {
        "stop": stop_after_attempt(1 + endpoint.retries),
        "wait": _wait_s,
        "retry": retry_if_result(is_worth_another),
        "retry_error_callback": _exchange,
    }


def _wait_s(state: RetryCallState) -> float:
    asked = _exchange(state).retry_after_s
    return min(asked, LONGEST_WAIT_S) if asked is not None else _backoff(state)


def _exchange(state: RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()
