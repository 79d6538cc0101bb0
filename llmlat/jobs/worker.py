"""One process beside this one, for jobs that measure nothing: a sweep composes its next job meanwhile.

It starts with a fresh interpreter, so that it holds no model, and it does one job at a time. It is never there
beside a measurement, and it ends with this process, however this one ends.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any


class Worker:
    """A process that does one piece of work at a time, started when there is some."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._processes: list[BaseProcess] = []
        self._pending: Future[Any] | None = None
        self._on_loss: Callable[[BaseException], None] = _raise

    def hand_over(
        self, on_loss: Callable[[BaseException], None], work: Callable[..., None], *arguments: Any
    ) -> None:
        """Have some work done, once what was handed over before is.

        Parameters
        ----------
        on_loss : callable
            Called with the reason where the work is not done: `BrokenProcessPool` where the process was killed.
        work : callable
            A module's function, which writes down itself what comes of it.
        *arguments
            What it is called with; they are pickled.
        """
        self.wait()
        if self._pool is None:
            # A fork would inherit what is left of torch's threads; a fresh interpreter works everywhere.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, initializer=_begin)
        before = multiprocessing.active_children()
        with _ctrl_c_held_back():
            self._pending = self._pool.submit(work, *arguments)
        self._processes += [child for child in multiprocessing.active_children() if child not in before]
        self._on_loss = on_loss

    def wait(self) -> None:
        """Wait for the work that was handed over."""
        if self._pending is None:
            return
        error = self._pending.exception()
        self._pending = None
        if isinstance(error, BrokenProcessPool):
            self.kill()  # another is started when there is more to do
        if error is not None:
            self._on_loss(error)

    def end(self) -> None:
        """Wait for the work that was handed over, and for the process to end."""
        self.wait()
        if self._pool is not None:
            self._pool.shutdown()
        self._forget()

    def kill(self) -> None:
        """End the process at once, with what it is doing."""
        for process in self._processes:
            process.kill()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._forget()

    def _forget(self) -> None:
        self._pool, self._processes, self._pending = None, [], None


def _raise(error: BaseException) -> None:
    raise error


def _begin() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that one has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True, name="llmlat-parent").start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Have a process that starts here never see Ctrl-C, not even before it can say so."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
