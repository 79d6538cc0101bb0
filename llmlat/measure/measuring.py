"""What one process measures into a dataset, between loading the model and letting it go.

Files, telemetry, progress and tracking come between requests, never within one.
"""

import gc
from collections.abc import Iterator

import pandas as pd
import torch

from llmlat.config import Config
from llmlat.dataset import Dataset
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector, RequestBrokenOffError
from llmlat.measure.generators import Generators
from llmlat.measure.machine.device import is_out_of_memory
from llmlat.measure.machine.pauses import PauseWatch
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.agenda import Agenda
from llmlat.measure.protocol.memory import Misfits
from llmlat.measure.protocol.retries import NOT_SETTLED, Retries, with_flag
from llmlat.measure.protocol.warmup import WarmUp, keep_warm_up, warm_cell
from llmlat.measure.resuming import OnRequest, progress_bar
from llmlat.measure.telemetry import Telemetry


class Measuring:
    """Warms up, and measures what is on the agenda.

    Parameters
    ----------
    config : Config
    dataset : Dataset
    agenda : Agenda
    generators : Generators
    collector : Collector
    telemetry : Telemetry
    pauses : PauseWatch
    device : torch.device
    on_request : callable
        Called with each request and its rows, once they are on disk.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        agenda: Agenda,
        generators: Generators,
        collector: Collector,
        telemetry: Telemetry,
        pauses: PauseWatch,
        device: torch.device,
        on_request: OnRequest,
    ) -> None:
        self._collect = config.collect
        self._dataset = dataset
        self._agenda = agenda
        self._generators = generators
        self._collector = collector
        self._telemetry = telemetry
        self._pauses = pauses
        self._device = device
        self._on_request = on_request
        self._misfits = Misfits(dataset.skipped())
        self.retries = Retries(config.collect, dataset.set_aside)
        self.first_misfit: RequestBrokenOffError | None = None
        self._is_settled = True
        self._began_ns = self._ended_ns = 0

    def run(self) -> None:
        """Measure everything, and what comes to it on the way."""
        pending = self._agenda.pending()
        self._warm_up(pending)
        expected = {request.request_id for request in pending}
        with progress_bar(pending) as progress:
            for block in self._agenda.blocks(self._seconds):
                progress.total += sum(r.max_new_tokens for r in block if r.request_id not in expected)
                for request in block:
                    self._take(request)
                    progress.update(request.max_new_tokens)

    def _seconds(self) -> float:
        """Return how long this session has measured, from its first counted step to its last."""
        return (self._ended_ns - self._began_ns) / 1e9

    def _take(self, request: Request) -> None:
        """Measure a request, or record why it cannot be."""
        if (larger := self._misfits.larger(request)) is not None:
            self._skip(larger)
            return
        try:
            rows = self.retries.measure(request, self._measure_once)
        except RequestBrokenOffError as error:
            self._record_misfit(error, request)
            return
        self._dataset.append_request(request.request_id, rows)
        self._agenda.note(request, rows)
        self._on_request(request, rows)

    def _measure_once(self, request: Request) -> pd.DataFrame:
        rows = self._annotated(self._collector.measure(request, *self._generators.of(request.cell)))
        self._began_ns = self._began_ns or _start_ns(rows)
        self._ended_ns = int(rows["completed_at_ns"].max())
        return rows if self._is_settled else with_flag(rows, NOT_SETTLED)

    def _annotated(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return rows with what is known of the machine while they were taken."""
        return self._pauses.flag(self._telemetry.annotate(rows))

    def _record_misfit(self, error: RequestBrokenOffError, request: Request) -> None:
        """Record a request that does not fit and make room again; anything else that broke it off goes on.

        Raises
        ------
        RequestBrokenOffError
        """
        cause = error.__cause__
        if cause is None or not is_out_of_memory(cause):
            raise error
        if len(error.rows) and error.request is request:
            self._dataset.keep_partial(request.request_id, error.rows)
        at_token = int(error.rows["token_index"].max()) + 1 if len(error.rows) else 0
        self._skip(self._misfits.add(request, at_token, cause, self._device))
        # Their frames hold what the request had allocated, and the model.
        cause.__traceback__ = error.__traceback__ = None
        self.first_misfit = self.first_misfit or error
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _skip(self, skipped: dict[str, object]) -> None:
        self._dataset.skip({**skipped, "session_id": self._collector.session_id})

    def _warm_up(self, pending: list[Request]) -> None:
        """Warm every cell up, the first one until its latency has settled, and keep the rows."""
        if self._collect.warmup == 0:
            return
        parts: list[pd.DataFrame] = []
        warm_up: WarmUp | None = None
        for cell in dict.fromkeys(request.cell for request in pending):
            for request in self._fitting(pending, cell):
                try:
                    rows, described = self._warm_cell(request, is_first=not parts)
                except RequestBrokenOffError as error:
                    self._record_misfit(error, request)
                    continue
                parts.append(rows)
                warm_up = warm_up or described
                break
        if warm_up is not None:
            rows = self._annotated(pd.concat(parts, ignore_index=True))
            self._is_settled = keep_warm_up(self._dataset, self._collector.session_id, rows, warm_up)

    def _fitting(self, pending: list[Request], cell: Cell) -> Iterator[Request]:
        """Yield the requests of a cell that are not known to be too large."""
        return (r for r in pending if r.cell == cell and self._misfits.larger(r) is None)

    def _warm_cell(self, request: Request, *, is_first: bool) -> tuple[pd.DataFrame, WarmUp]:
        engine, decoder = self._generators.of(request.cell)

        def generate(n_tokens: int) -> pd.DataFrame:
            return self._collector.warm_up(request, n_tokens, engine, decoder)

        return warm_cell(generate, self._collect, request.max_new_tokens, is_first=is_first)


def _start_ns(rows: pd.DataFrame) -> int:
    first = rows.iloc[0]
    return int(first["completed_at_ns"] - round(first["token_latency_ms"] * 1e6))
