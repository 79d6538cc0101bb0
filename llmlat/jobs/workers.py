"""Two processes beside this one, for jobs that measure nothing: a sweep composes its next jobs meanwhile.

They start with a fresh interpreter, so that they hold no model, and each does one job at a time. They are
never there beside a measurement, and they end with this process, however this one ends.
"""

import concurrent.futures
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

N_WORKERS = 2  # a third would wait: composing a job takes a third of the time that the rest takes


class Workers:
    """Processes that do a piece of work at a time each, and are started when there is some."""

    def __init__(self) -> None:
        self._workers = [_Worker() for _ in range(N_WORKERS)]

    def hand_over(
        self, on_loss: Callable[[BaseException], None], work: Callable[..., None], *arguments: Any
    ) -> None:
        """Have some work done as soon as a process is free, which is waited for.

        Parameters
        ----------
        on_loss : callable
            Called with the reason where the work is not done: `BrokenProcessPool` where it was killed.
        work : callable
            A module's function, which writes down itself what comes of it.
        *arguments
            What it is called with; they are pickled.
        """
        pending = [worker.pending for worker in self._workers if worker.pending]
        if len(pending) == N_WORKERS:
            concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        free = next(worker for worker in self._workers if not worker.pending or worker.pending.done())
        free.settle()
        free.hand_over(on_loss, work, *arguments)

    def end(self) -> None:
        """Wait until all is done that was handed over, and for the processes to end."""
        for worker in self._workers:
            worker.settle()
            worker.end()

    def kill(self) -> None:
        """End the processes at once, with what they are doing."""
        for worker in self._workers:
            worker.kill()


class _Worker:
    """One of the processes: a pool of its own, as what kills a process breaks all of its pool."""

    def __init__(self) -> None:
        self.pending: Future[Any] | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._processes: list[BaseProcess] = []
        self._on_loss: Callable[[BaseException], None]

    def hand_over(
        self, on_loss: Callable[[BaseException], None], work: Callable[..., None], *arguments: Any
    ) -> None:
        if self._pool is None:
            # A fork would inherit what is left of torch's threads; a fresh interpreter works everywhere.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, initializer=_begin)
        before = multiprocessing.active_children()
        with _ctrl_c_held_back():
            self.pending = self._pool.submit(work, *arguments)
        self._processes += [child for child in multiprocessing.active_children() if child not in before]
        self._on_loss = on_loss

    def settle(self) -> None:
        """Wait for the work that was handed over, and tell where it is lost."""
        if self.pending is None:
            return
        error = self.pending.exception()
        self.pending = None
        if isinstance(error, BrokenProcessPool):
            self.kill()  # another is started when there is more to do
        if error is not None:
            self._on_loss(error)

    def end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool, self._processes, self.pending = None, [], None

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
        self.end()


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
