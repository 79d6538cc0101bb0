"""When bytes came: connections that read the clock where the event loop hands bytes over.

This is the network backend under the HTTP library (httpcore's own place for one). The loop reads all sockets
that have something before any task goes on, so no parsing of HTTP, of this connection or of another, comes
between bytes and clock, and what came in one read is known to have come together.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import httpcore
from httpcore import SOCKET_OPTION


class ClosedBetweenRequestsError(httpcore.NetworkError):
    """A connection that had answered before was closed by the server before any answer to this request came.

    The server closed it while the request was on its way, and has most likely not seen it.
    """


class Inbox(asyncio.Protocol):
    """What a connection has received and nobody has read: bytes, and when they came."""

    def __init__(self) -> None:
        self.received: deque[tuple[int, bytes]] = deque()
        self.is_over = False
        self.error: Exception | None = None
        self._is_something_there = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        """Keep what came, and when."""
        self.received.append((time.perf_counter_ns(), data))
        self._is_something_there.set()

    def eof_received(self) -> None:
        """Know that no more comes."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Know that no more comes, and why."""
        self._end(error)

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._may_write.set()

    async def until_something_is_there(self) -> None:
        """Wait for bytes, or for the end."""
        if not self.received and not self.is_over:
            self._is_something_there.clear()
            await self._is_something_there.wait()

    async def until_written(self) -> None:
        """Wait for the network to take more."""
        await self._may_write.wait()

    def _end(self, error: Exception | None) -> None:
        self.is_over, self.error = True, self.error or error
        self._is_something_there.set()
        self._may_write.set()


class ClockedStream(httpcore.AsyncNetworkStream):
    """A connection that remembers when it sent and received.

    Attributes
    ----------
    sent_ns : int
        When the latest request began to be written.
    first_byte_ns : int
        When the first bytes after that came.
    arrived_ns : int
        When the bytes that were read last had come.
    """

    def __init__(self, transport: asyncio.Transport, inbox: Inbox) -> None:
        self._transport, self._inbox = transport, inbox
        self._is_answered = True
        self._has_answered = False
        self.sent_ns = self.first_byte_ns = self.arrived_ns = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what came first and was not read, and take over when it came."""
        inbox = self._inbox
        try:
            async with asyncio.timeout(timeout):
                await inbox.until_something_is_there()
        except TimeoutError as error:
            raise httpcore.ReadTimeout(f"silent for {timeout:g} s") from error
        if not inbox.received:
            if self._has_answered and not self._is_answered:
                raise ClosedBetweenRequestsError("the server closed the connection between two requests")
            if inbox.error is not None:
                raise httpcore.ReadError(str(inbox.error)) from inbox.error
            return b""
        self.arrived_ns, data = inbox.received.popleft()
        if len(data) > max_bytes:
            inbox.received.appendleft((self.arrived_ns, data[max_bytes:]))
        if not self._is_answered:
            self.first_byte_ns, self._is_answered, self._has_answered = self.arrived_ns, True, True
        return data[:max_bytes]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Note the time where a request begins, and write."""
        if not buffer:
            return
        if self._is_answered:
            self.sent_ns, self._is_answered = time.perf_counter_ns(), False
        if self._inbox.is_over:
            raise httpcore.WriteError("the server has closed the connection")
        self._transport.write(buffer)
        try:
            async with asyncio.timeout(timeout):
                await self._inbox.until_written()
        except TimeoutError as error:
            raise httpcore.WriteTimeout(f"nothing was taken for {timeout:g} s") from error

    async def aclose(self) -> None:
        """Close the connection at once: everything was read, or nothing more is wanted."""
        self._transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the connection, encrypted from now on."""
        started = asyncio.get_running_loop().start_tls(
            self._transport,
            self._inbox,
            ssl_context,
            server_hostname=server_hostname,
            ssl_handshake_timeout=timeout,
        )
        try:
            transport = await started
        except (OSError, ssl.SSLError) as error:
            raise httpcore.ConnectError(str(error) or type(error).__name__) from error
        assert transport is not None
        return ClockedStream(transport, self._inbox)

    def get_extra_info(self, info: str) -> Any:
        """Tell what the HTTP library asks: whether an idle connection has been closed by the server."""
        return bool(self._inbox.received) or self._inbox.is_over if info == "is_readable" else None


class ClockedBackend(httpcore.AsyncNetworkBackend):
    """Makes connections that are clocked."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a server."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport, inbox = await loop.create_connection(Inbox, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection within {timeout:g} s") from error
        except OSError as error:
            raise httpcore.ConnectError(error.strerror or str(error)) from error
        return ClockedStream(transport, inbox)

    async def sleep(self, seconds: float) -> None:
        """Let seconds pass."""
        await asyncio.sleep(seconds)
