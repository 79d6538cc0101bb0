"""The timed loop: one honest row a token.

A token's latency is the time from the completion of the token before it (or the request's start) to its
own completion, device synchronised, sampling included. So the latencies of a request add up to its wall
time, and no interval spans two requests. Nothing but the step and the mark happens in the loop: rows are
built after the request, and written by whoever asked for it.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from llmlat.measure.engines import Decoder, Engine
from llmlat.measure.prompts import Request
from llmlat.measure.rows import rows_of
from llmlat.measure.timers import Timer
from llmlat.records import COLUMN, DECODE, PREFILL


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
        super().__init__(f"request {request.request_id} ({request.name}) broke off after {len(rows)} tokens")
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
    """Runs requests through engines and turns each into rows.

    Parameters
    ----------
    timer : Timer
        Times the steps.
    session_id : int, default=0
        Which session of the dataset this is.
    seed : int, default=0
        With a request's number, seeds what is drawn in it: a resumed request draws the same.
    """

    def __init__(self, timer: Timer, session_id: int = 0, seed: int = 0) -> None:
        self.timer = timer
        self.session_id = session_id
        self.seed = seed
        # One anchor a session ties the monotonic clock to the calendar; a later step of the wall clock
        # (NTP, daylight saving) cannot bend the intervals.
        self.epoch_offset_ns = time.time_ns() - time.perf_counter_ns()
        self._requests_run = 0
        self._visited: set[tuple[str, int, str, int]] = set()

    def measure(self, request: Request, engine: Engine, decoder: Decoder) -> pd.DataFrame:
        """Measure a request.

        Parameters
        ----------
        request : Request
        engine : Engine
        decoder : Decoder
            The one that the engine chooses tokens with.

        Returns
        -------
        DataFrame
            One row a token, with the columns of `llmlat.records.COLUMNS`; the telemetry is empty.

        Raises
        ------
        RequestBrokenOffError
            Where the request failed or was interrupted; it carries the rows so far.
        """
        rows = self._measure(request, engine, decoder)
        self._requests_run += 1
        return rows

    def warm_up(self, request: Request, n_tokens: int, engine: Engine, decoder: Decoder) -> pd.DataFrame:
        """Generate `n_tokens` tokens from a request's prompts and return their rows, marked as warm-up."""
        return self._measure(request.as_warm_up(n_tokens), engine, decoder)

    def _measure(self, request: Request, engine: Engine, decoder: Decoder) -> pd.DataFrame:
        steps: list[torch.Tensor] = []
        try:
            with torch.inference_mode(), paused_garbage_collection():
                decoder.begin(len(request.prompts), request.max_new_tokens, request.draw_seed(self.seed))
                self._generate(request, engine, decoder, steps)
        except BaseException as error:
            raise RequestBrokenOffError(request, self._rows(request, decoder, steps)) from error
        return self._rows(request, decoder, steps)

    def _generate(
        self, request: Request, engine: Engine, decoder: Decoder, steps: list[torch.Tensor]
    ) -> None:
        """Generate one request, marking each completion. This is the timed loop."""
        timer, may_end = self.timer, request.cell.stop_at_eos
        state = engine.prepare(request.prompts, request.max_new_tokens)
        timer.reset(request.max_new_tokens)
        timer.mark()
        next_ids = engine.prefill(state)
        timer.mark()
        steps.append(next_ids)
        for _ in range(request.max_new_tokens - 1):
            # Looking at the tokens is part of deciding to go on, so its cost falls on the next step.
            if may_end and decoder.is_finished():
                break
            next_ids = engine.decode_one_token(state)
            timer.mark()
            steps.append(next_ids)

    def _rows(self, request: Request, decoder: Decoder, steps: list[torch.Tensor]) -> pd.DataFrame:
        times = self.timer.read()
        n_steps = min(len(steps), max(len(times.marks_ns) - 1, 0))
        is_first = self._visit(request, n_steps)
        return rows_of(request, decoder.tokens(steps[:n_steps]), n_steps, times).assign(
            session_id=np.int32(self.session_id),
            session_request=np.int32(self._requests_run),
            first_visit=lambda rows: is_first[rows["token_index"].to_numpy()],
            completed_at_ns=lambda rows: rows["completed_at_ns"] + self.epoch_offset_ns,
        )[list(COLUMN)]

    def _visit(self, request: Request, n_steps: int) -> npt.NDArray[np.bool_]:
        """Tell which steps are the first of their shape, and remember them."""
        cell, rows = request.cell, len(request.prompts) * request.cell.num_beams
        shapes = [
            (cell.engine, rows, PREFILL if step == 0 else DECODE, request.prompt_tokens + step)
            for step in range(n_steps)
        ]
        is_first = np.array([shape not in self._visited for shape in shapes], dtype=bool)
        self._visited.update(shapes)
        return is_first
