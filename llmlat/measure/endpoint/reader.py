"""The process that talks to the server, and this process's end of it.

Parsing, building rows and writing files would hold the interpreter while other requests' chunks arrive, and
their times would be ours. So requests are sent, and arrivals noted, in a process that does nothing else; an
exchange that has ended is handed over through a pipe as two arrays and its bytes, by a thread that may wait.

Run as a module, it reads an `Endpoint` and then loads from its standard input, and answers on its standard
output: first its clock's anchor; then, for each load, the exchanges, and None. When its input ends, it breaks
off what is in flight, hands that over too, and ends. So it never outlives who started it.
"""

import asyncio
import contextlib
import gc
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, Self

from llmlat.errors import MeasurementError
from llmlat.measure.endpoint.arrival import Load, send
from llmlat.measure.endpoint.client import Client
from llmlat.measure.endpoint.exchange import Exchange
from llmlat.measure.endpoint.settings import Endpoint

STOP_TIMEOUT_S = 5.0
_END = object()


class Reader:
    """Sends loads to a server from a process of its own, within a `with` block.

    Parameters
    ----------
    endpoint : Endpoint

    Attributes
    ----------
    epoch_offset_ns : int
        From the clock of the exchanges to nanoseconds since 1970; read once, so that a later step of the wall
        clock cannot bend the intervals.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._received: queue.Queue[Any] = queue.Queue()

    def __enter__(self) -> Self:
        self._complaints = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        threading.Thread(target=self._receive, name="llmlat-endpoint", daemon=True).start()
        self._hand_over(self._endpoint)
        self.epoch_offset_ns: int = self._next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self.stop():
            pass
        self._complaints.close()

    def send(self, load: Load) -> Iterator[Exchange]:
        """Send a load, and yield its exchanges as they end.

        Raises
        ------
        MeasurementError
            Where the process has died.
        """
        self._hand_over(load)
        while (exchange := self._next()) is not None:
            yield exchange

    def stop(self) -> Iterator[Exchange]:
        """Break off what is in flight, and yield what had come of it; end the process."""
        killer = threading.Timer(STOP_TIMEOUT_S, self._process.kill)
        killer.start()
        try:
            with contextlib.suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.close()
            while (received := self._received.get()) is not _END:
                if isinstance(received, Exchange):
                    yield received
            self._received.put(_END)
            self._process.wait()
        finally:
            killer.cancel()

    def _hand_over(self, what: Endpoint | Load) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _next(self) -> Any:
        received = self._received.get()
        if received is _END:
            self._received.put(_END)
            raise self._died()
        return received

    def _receive(self) -> None:
        """Take over what comes at once: the pipe's other end must not wait."""
        assert self._process.stdout is not None
        with self._process.stdout as pipe, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self._received.put(pickle.load(pipe))
        self._received.put(_END)

    def _died(self) -> MeasurementError:
        self._process.wait(STOP_TIMEOUT_S)
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit code {self._process.returncode}"
        return MeasurementError(f"the process that reads the server's answers died ({why}).")


def main() -> None:
    """Answer on standard output what comes on standard input."""
    # Ctrl-C goes to the whole group; who started this decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    writer = threading.Thread(target=_write, args=(sys.stdout.buffer, outgoing))
    writer.start()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_answer(sys.stdin.buffer, outgoing))
    finally:
        outgoing.put(_END)
        writer.join()


async def _answer(incoming: IO[bytes], outgoing: "queue.SimpleQueue[Any]") -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    endpoint: Endpoint = pickle.load(incoming)
    loads: asyncio.Queue[Load] = asyncio.Queue()

    def read() -> None:
        try:
            while True:
                loop.call_soon_threadsafe(loads.put_nowait, pickle.load(incoming))
        except EOFError:
            loop.call_soon_threadsafe(task.cancel)

    client = Client(endpoint, outgoing.put)
    threading.Thread(target=read, daemon=True).start()
    outgoing.put(time.time_ns() - time.perf_counter_ns())
    # What is loaded by now stays: looking through it for garbage would be on the clock.
    gc.collect()
    gc.freeze()
    try:
        while True:
            await send(await loads.get(), client)
            outgoing.put(None)
    finally:
        await client.aclose()


def _write(pipe: IO[bytes], outgoing: "queue.SimpleQueue[Any]") -> None:
    while (said := outgoing.get()) is not _END:
        try:
            pickle.dump(said, pipe)
            pipe.flush()
        except OSError:
            os._exit(1)  # nobody is there to read


if __name__ == "__main__":
    main()
