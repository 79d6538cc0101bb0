"""What one process measures of a server into a dataset, between its first request and its last.

The requests of a block are sent by the reader's process, as the arrival pattern says; here what came of them
is read, one after the other in the order of their ends, and put on disk. How long that takes is on no clock.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
from tqdm import tqdm

from llmlat.config import Config, Flagged
from llmlat.dataset import Dataset
from llmlat.errors import MeasurementError
from llmlat.measure.endpoint.answers import Answer, read_answer, refusal
from llmlat.measure.endpoint.arrival import Load
from llmlat.measure.endpoint.counts import PromptCounts
from llmlat.measure.endpoint.exchange import Exchange
from llmlat.measure.endpoint.loads import Loads
from llmlat.measure.endpoint.reader import Reader
from llmlat.measure.endpoint.rows import RowMaker
from llmlat.measure.endpoint.tally import UNCOUNTED, Tally
from llmlat.measure.endpoint.unanswered import Unanswered
from llmlat.measure.endpoint.warming import NoTokensError, warm_up
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.agenda import Agenda
from llmlat.measure.protocol.retries import NOT_SETTLED, flags_in, with_flag
from llmlat.measure.protocol.schedule import is_open_ended
from llmlat.measure.protocol.warmup import keep_warm_up
from llmlat.measure.resuming import OnRequest, progress_bar

log = logging.getLogger(__name__)


class Measuring:
    """Warms up, and measures what is on the agenda.

    Parameters
    ----------
    config : Config
    dataset : Dataset
    agenda : Agenda
    loads : Loads
        Makes of requests what is sent.
    reader : Reader
    rows : RowMaker
    counts : PromptCounts
    on_request : callable
        Called with each request and its rows, once they are on disk.

    Attributes
    ----------
    retries : dict of int
        What `collect.flagged=retry` came to.
    unanswered : Unanswered
    tally : Tally
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        agenda: Agenda,
        loads: Loads,
        reader: Reader,
        rows: RowMaker,
        counts: PromptCounts,
        on_request: OnRequest,
    ) -> None:
        self._collect = config.collect
        self._most_tries = 1 + (config.collect.retries if config.collect.flagged is Flagged.retry else 0)
        self._dataset = dataset
        self._agenda = agenda
        self._loads = loads
        self._reader = reader
        self._rows = rows
        self._counts = counts
        self._on_request = on_request
        self._is_settled = True
        self._began_s: float | None = None
        self.retries = {"requests": 0, "tries_set_aside": 0, "flagged_to_the_end": 0}
        self.unanswered = Unanswered(dataset, rows.session_id)
        self.tally = Tally(wants_whole_length=not config.decoding.stop_at_eos)

    def run(self) -> None:
        """Measure everything, and what comes to it on the way."""
        pending = self._agenda.pending()
        self._warm_up(pending)
        self._began_s = time.monotonic()
        with progress_bar(pending) as progress:
            for block in self._blocks(pending):
                progress.total = max(progress.total, progress.n + sum(r.max_new_tokens for r in block))
                self._measure(block, progress)
        self.unanswered.record()

    def break_off(self) -> None:
        """End the reader's process, and keep what had come: whole answers, and parts of others apart."""
        for exchange in self._reader.stop():
            request = self._loads.request(exchange.request_id)
            answer = read_answer(exchange)
            count = self._counts.of(request, answer) if request is not None else None
            if request is None or count is None or not answer.arrivals:
                continue
            if answer.is_whole:
                self._keep(request, exchange, answer, count, is_last=True)
            else:
                rows = self._rows.rows(request, exchange, answer, count)
                self._dataset.keep_partial(request.request_id, rows)

    def _blocks(self, pending: list[Request]) -> Iterator[list[Request]]:
        """Yield what is sent in one go: all that is known, so that the server is never left without."""
        if is_open_ended(self._collect):
            yield from self._agenda.blocks(self._seconds)
        else:
            yield pending

    def _seconds(self) -> float:
        return time.monotonic() - self._began_s if self._began_s is not None else 0.0

    def _measure(self, block: list[Request], progress: "tqdm[Any]") -> None:
        """Send a block, and again those of it that are flagged, as often as `collect.retries` says."""
        for n_before in range(self._most_tries):
            flagged = list(self._measure_once(block, progress, is_last=n_before + 1 == self._most_tries))
            if not flagged:
                break
            self.retries["requests"] += len(flagged) if n_before == 0 else 0
            self.retries["tries_set_aside"] += len(flagged)
            log.info(
                f"{len(flagged)} requests are flagged: measuring them again in "
                f"{self._collect.cool_down_s:g} s ({n_before + 1} of {self._most_tries - 1})."
            )
            time.sleep(self._collect.cool_down_s)
            block = flagged

    def _measure_once(
        self, block: list[Request], progress: "tqdm[Any]", *, is_last: bool
    ) -> Iterator[Request]:
        """Send a block and keep what comes of it; yield the requests that are to be measured again."""
        uncounted: list[tuple[Request, Exchange, Answer]] = []
        for request, exchange in self._send(self._loads.of(block)):
            answer = self._read(request, exchange)
            if answer is None:
                continue
            progress.update(request.max_new_tokens)
            count = self._counts.of(request, answer)
            if count is None:
                uncounted.append((request, exchange, answer))
            elif self._keep(request, exchange, answer, count, is_last=is_last):
                yield request
        for request, exchange, answer in uncounted:
            count = self._ask_for_count(request)
            if count is None:
                log.warning(
                    f"Request {request.request_id} ({request.name}) was cut before its prompt was counted; "
                    "it is measured when the same command is run again."
                )
            elif self._keep(request, exchange, answer, count, is_last=is_last):
                yield request

    def _send(self, load: Load) -> Iterator[tuple[Request, Exchange]]:
        for exchange in self._reader.send(load):
            self.unanswered.failed_attempts.update(exchange.failures)
            request = self._loads.request(exchange.request_id)
            assert request is not None
            yield request, exchange

    def _read(self, request: Request, exchange: Exchange) -> Answer | None:
        """Return the answer, or take down that there is none.

        Raises
        ------
        MeasurementError
            Where the server has gone, or answers nothing any more.
        """
        answer = None if exchange.is_lost else read_answer(exchange)
        if answer is not None and (answer.arrivals or answer.is_whole):
            self.unanswered.record()
            return answer
        why = refusal(exchange) if answer is None else answer.error
        self.unanswered.add(request, exchange, why, self._counts.known(request))
        return None

    def _keep(
        self, request: Request, exchange: Exchange, answer: Answer, prompt_tokens: int, *, is_last: bool
    ) -> bool:
        """Put a request's rows on disk; return whether it is to be measured again."""
        rows = self._rows.rows(request, exchange, answer, prompt_tokens)
        if flags_in(rows) - {UNCOUNTED}:
            if not is_last:
                self._dataset.set_aside(request.request_id, rows)
                return True
            self.retries["flagged_to_the_end"] += self._most_tries > 1
        rows = rows if self._is_settled else with_flag(rows, NOT_SETTLED)
        self._dataset.append_request(request.request_id, rows)
        if rows.empty:
            log.warning(f"Request {request.request_id} ({request.name}): its answer brought no token.")
            return False
        self.tally.add(request, answer, prompt_tokens)
        self._agenda.note(request, rows)
        self._on_request(request, rows)
        return False

    def _ask_for_count(self, request: Request) -> int | None:
        """Ask the server for one token more of a prompt that it cut before saying how long it was."""
        (exchange,) = self._reader.send(self._loads.single(request, 1))
        return None if exchange.is_lost else self._counts.of(request, read_answer(exchange))

    def _warm_up(self, pending: list[Request]) -> None:
        """Generate what does not count, and keep its rows."""
        if self._collect.warmup == 0:
            return
        rows, described = warm_up(pending, self._collect, self._generate)
        self._is_settled = keep_warm_up(self._dataset, self._rows.session_id, rows, described)

    def _generate(self, request: Request, n_tokens: int) -> pd.DataFrame:
        """Generate some tokens of a request to warm up, with nothing else in flight.

        Raises
        ------
        NoTokensError
            Where none come.
        MeasurementError
            Where the server does not answer.
        """
        single = request.as_warm_up(n_tokens)
        (exchange,) = self._reader.send(self._loads.single(single, n_tokens))
        self.unanswered.failed_attempts.update(exchange.failures)
        answer = None if exchange.is_lost else read_answer(exchange)
        count = self._counts.of_warm_up(request, answer) if answer is not None else None
        if answer is not None and answer.is_whole and not answer.arrivals:
            raise NoTokensError
        if answer is None or count is None or not answer.arrivals:
            why = refusal(exchange) if answer is None else answer.error
            raise MeasurementError(f"the warm-up was not answered ({why})")
        return self._rows.rows(single, exchange, answer, count)
