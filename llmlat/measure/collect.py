"""The timed loop: one honest row a token.

A token's latency is the time from the completion of the token before it (or the request's start) to its
own completion, device synchronised, sampling included. So the latencies of a request add up to its wall
time, and no interval spans two requests. Nothing but the step and the mark happens in the loop: rows are
built after the request, and written by whoever asked for it.
"""

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from llmlat.measure.engines import Engine
from llmlat.measure.prompts import Request
from llmlat.measure.timers import Timer
from llmlat.records import DECODE, PREFILL

WARMUP_REQUEST_ID = -1


class RequestBrokenOffError(Exception):
    """A request that did not finish; its cause is chained.

    Attributes
    ----------
    request : Request
        The request that broke off.
    rows : DataFrame
        The rows of the tokens that were complete.
    """

    def __init__(self, request: Request, rows: pd.DataFrame) -> None:
        super().__init__(
            f"request {request.request_id} ({request.prompt_id}) broke off after {len(rows)} tokens"
        )
        self.request = request
        self.rows = rows


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Collect garbage now, and not again within the block: a collection would count as a token's latency."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def set_aside_from_garbage_collection() -> Iterator[None]:
    """Leave all that is alive now out of the collections within the block.

    With torch and a model loaded, a collection takes a quarter of a second: too long before every request.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Collector:
    """Runs requests through an engine and turns each into rows.

    Parameters
    ----------
    engine : Engine
        Generates the tokens.
    timer : Timer
        Times them.
    session_id : int, default=0
        Which session of the dataset this is.
    eos_ids : frozenset of int, optional
        Tokens that end a request; empty to always generate `max_new_tokens`.
    """

    def __init__(
        self, engine: Engine, timer: Timer, session_id: int = 0, eos_ids: frozenset[int] = frozenset()
    ) -> None:
        self.engine = engine
        self.timer = timer
        self.session_id = session_id
        self.eos_ids = eos_ids
        # One anchor a session ties the monotonic clock to the calendar; a later step of the wall clock
        # (NTP, daylight saving) cannot bend the intervals.
        self._epoch_offset_ns = time.time_ns() - time.perf_counter_ns()
        self._requests_run = 0
        self._visited: set[tuple[str, int]] = set()

    def run(self, requests: Iterable[Request]) -> Iterator[tuple[Request, pd.DataFrame]]:
        """Measure requests one by one.

        Yields
        ------
        request : Request
        rows : DataFrame
            One row a token, with the columns of `llmlat.records.COLUMNS`.

        Raises
        ------
        RequestBrokenOffError
            Where a request failed or was interrupted; it carries the rows so far.
        """
        for request in requests:
            yield request, self._measure(request, is_warmup=False)

    def warm_up(self, request: Request, n_tokens: int) -> pd.DataFrame:
        """Generate `n_tokens` tokens from a request's prompt and return their rows, marked as warm-up."""
        warmup = Request(WARMUP_REQUEST_ID, request.prompt_id, 0, request.token_ids, n_tokens)
        return self._measure(warmup, is_warmup=True)

    def _measure(self, request: Request, is_warmup: bool) -> pd.DataFrame:
        tokens: list[torch.Tensor] = []
        try:
            with torch.inference_mode(), paused_garbage_collection():
                self._generate(request, tokens)
        except BaseException as error:
            raise RequestBrokenOffError(request, self._rows(request, tokens, is_warmup)) from error
        rows = self._rows(request, tokens, is_warmup)
        self._requests_run += not is_warmup
        return rows

    def _generate(self, request: Request, tokens: list[torch.Tensor]) -> None:
        """Generate one request, marking each completion. This is the timed loop."""
        engine, timer, eos_ids = self.engine, self.timer, self.eos_ids
        state = engine.prepare(request.token_ids, request.max_new_tokens)
        timer.reset(request.max_new_tokens)
        timer.mark()
        next_ids = engine.prefill(state)
        timer.mark()
        tokens.append(next_ids)
        for _ in range(request.max_new_tokens - 1):
            # Looking at the token is part of deciding to go on, so its cost falls on the next token.
            if eos_ids and int(next_ids) in eos_ids:
                break
            next_ids = engine.decode_one_token(state)
            timer.mark()
            tokens.append(next_ids)

    def _rows(self, request: Request, tokens: list[torch.Tensor], is_warmup: bool) -> pd.DataFrame:
        times = self.timer.read()
        n = min(len(tokens), max(len(times.marks_ns) - 1, 0))
        token_index = np.arange(n)
        prompt_tokens = len(request.token_ids)
        phase = np.where(token_index == 0, PREFILL, DECODE)
        return pd.DataFrame(
            {
                "request_id": request.request_id,
                "prompt_id": request.prompt_id,
                "repetition": request.repetition,
                "session_id": self.session_id,
                "session_request": self._requests_run,
                "is_warmup": is_warmup,
                "token_index": token_index,
                "phase": phase,
                "prompt_tokens": prompt_tokens,
                "context_length": prompt_tokens + token_index,
                "first_visit": self._visit(phase, prompt_tokens + token_index),
                "token_id": [int(ids) for ids in tokens[:n]],
                "token_latency_ms": times.latency_ms[:n],
                "device_latency_ms": times.device_ms[:n],
                "completed_at_ns": times.marks_ns[1 : n + 1] + self._epoch_offset_ns,
            },
            index=pd.RangeIndex(n),
        )

    def _visit(self, phase: npt.NDArray[np.str_], context_length: npt.NDArray[np.int64]) -> list[bool]:
        """Tell which steps are the first of their phase at their context length, and remember them."""
        steps = [(str(name), int(length)) for name, length in zip(phase, context_length, strict=True)]
        first = [step not in self._visited for step in steps]
        self._visited.update(steps)
        return first
