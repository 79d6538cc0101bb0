"""What is still to be measured: the plan, less what is on disk, and more where a median is not known well.

A protocol with a budget or with `collect.until_ci` decides as it goes. What it decides is written into
provenance before it is acted on, so that a run that is killed goes on with the same.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pandas as pd

from llmlat.config import CollectConfig
from llmlat.dataset import Dataset
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.intervals import relative_half_width, typical_latency_ms
from llmlat.measure.protocol.schedule import (
    MAX_REPETITIONS,
    is_open_ended,
    order_of,
    repeated,
    wanted_half_width,
)

log = logging.getLogger(__name__)


class Planned(Protocol):
    """What an agenda reads of a plan."""

    @property
    def single_pass(self) -> list[Request]:
        """Every batch of prompts in every cell, once."""

    @property
    def requests(self) -> list[Request]:
        """What is measured in any case, in order."""


class Agenda:
    """The requests of a dataset, repetition by repetition.

    Parameters
    ----------
    plan : Planned
    collect : CollectConfig
    seed : int
    dataset : Dataset
    """

    def __init__(self, plan: Planned, collect: CollectConfig, seed: int, dataset: Dataset) -> None:
        self._single_pass = plan.single_pass
        self._collect = collect
        self._seed = seed
        self._dataset = dataset
        n, provenance = len(plan.single_pass), dataset.provenance
        n_plain = int(provenance.get("repetitions", len(plan.requests) // n))
        self._plain = [plan.requests[start : start + n] for start in range(0, n_plain * n, n)]
        self._further: list[list[int]] = list(provenance.get("further_repetitions", []))
        self._is_finished = dataset.is_finished
        self._orders: dict[int, list[int]] = {}
        self._share = wanted_half_width(collect)
        self._latency_ms: dict[int, list[float]] = {position: [] for position in range(n)}
        if self._share is not None and not self._is_finished:
            self._recall()

    @property
    def requests(self) -> list[Request]:
        """Everything that is planned by now."""
        return [request for block in self._blocks() for request in block]

    def pending(self) -> list[Request]:
        """Return what is planned by now and not on disk; where that is nothing, what comes next."""
        pending = self._not_on_disk(self.requests)
        if not pending and not self._is_finished:
            pending = self._plan_next(seconds=0.0)
        return pending

    def blocks(self, seconds: Callable[[], float]) -> Iterator[list[Request]]:
        """Yield what is to be measured, one repetition at a time, until no more is.

        Parameters
        ----------
        seconds : callable
            Says how long this session has measured, against the budget.
        """
        is_begun = False
        for repetition, block in enumerate(self._blocks()):
            pending = self._not_on_disk(block)
            if pending and is_begun and not self._is_finished and self._is_spent(seconds()):
                self._drop_from(repetition)
                break
            is_begun |= bool(pending)
            if pending:
                yield pending
        while not self._is_finished:
            if block := self._plan_next(seconds()):
                yield block

    def note(self, request: Request, rows: pd.DataFrame) -> None:
        """Take down what was measured."""
        self._note(request.request_id, rows)

    def _blocks(self) -> list[list[Request]]:
        further = [self._further_block(index) for index in range(len(self._further))]
        return [*self._plain, *further]

    def _further_block(self, index: int) -> list[Request]:
        repetition = len(self._plain) + index
        whole = repeated(self._single_pass, self._collect, repetition, self._seed)
        return [request for request in whole if self._position(request.request_id) in self._further[index]]

    def _not_on_disk(self, requests: list[Request]) -> list[Request]:
        done = self._dataset.accounted_requests()
        return [request for request in requests if request.request_id not in done]

    def _position(self, request_id: int) -> int:
        """Return which request of the single pass this is a repetition of."""
        n = len(self._single_pass)
        repetition, place = divmod(request_id, n)
        if repetition not in self._orders:
            self._orders[repetition] = order_of(n, self._collect, repetition, self._seed)
        return self._orders[repetition][place]

    def _plan_next(self, seconds: float) -> list[Request]:
        """Plan a repetition of those whose median is not known well enough, or finish."""
        wide = self._wide()
        n_done = len(self._plain) + len(self._further)
        if not wide or self._is_spent(seconds) or n_done >= MAX_REPETITIONS:
            self._finish(wide)
            return []
        self._further.append(sorted(wide))
        self._dataset.update(n_requests=len(self.requests), further_repetitions=self._further)
        return self._further_block(len(self._further) - 1)

    def _drop_from(self, repetition: int) -> None:
        """Leave out the repetitions that the budget does not reach."""
        n_plain, dropped = len(self._plain), repetition - len(self._plain)
        self._plain = self._plain[:repetition]
        self._further = self._further[: max(dropped, 0)]
        if repetition < n_plain:
            log.info(
                f"The budget is spent (collect.budget_s={self._collect.budget_s:g}): {repetition} of "
                f"{n_plain} repetitions were measured."
            )

    def _wide(self) -> dict[int, float]:
        """Return the half widths that are above what is asked for, by position in the pass."""
        if self._share is None:
            return {}
        skipped = {self._position(entry["request_id"]) for entry in self._dataset.skipped()}
        widths = {
            position: relative_half_width(latency_ms)
            for position, latency_ms in self._latency_ms.items()
            if position not in skipped
        }
        return {position: width for position, width in widths.items() if width > self._share}

    def _is_spent(self, seconds: float) -> bool:
        return self._collect.budget_s is not None and seconds >= self._collect.budget_s

    def _finish(self, wide: dict[int, float]) -> None:
        self._is_finished = True
        if not is_open_ended(self._collect):
            return
        about = [self._describe(position, width) for position, width in wide.items()]
        self._dataset.finish(
            len(self.requests),
            repetitions=len(self._plain),
            further_repetitions=self._further,
            wider_than_asked=about,
        )
        if self._share is not None:
            log.info(self._outcome(wide))

    def _outcome(self, wide: dict[int, float]) -> str:
        asked = f"±{100 * (self._share or 0):g} %"
        n = len(self._plain) + len(self._further)
        if not wide:
            return f"Every median is known to {asked}, after {n} repetitions at most."
        widest = max(wide, key=lambda position: wide[position])
        width = "unknown" if math.isinf(wide[widest]) else f"±{100 * wide[widest]:.1f} %"
        reason = "collect.budget_s" if n < MAX_REPETITIONS else f"{MAX_REPETITIONS} repetitions"
        return (
            f"{len(wide)} of {len(self._single_pass)} medians are known less well than {asked} "
            f"(collect.until_ci); the widest is {width} ({self._single_pass[widest].name}). "
            f"What ended it: {reason}."
        )

    def _describe(self, position: int, width: float) -> dict[str, Any]:
        request = self._single_pass[position]
        return {
            "prompt_ids": list(dict.fromkeys(request.prompt_ids)),
            "engine": request.cell.engine,
            "batch_size": request.cell.batch_size,
            "num_beams": request.cell.num_beams,
            "temperature": request.cell.temperature,
            "repetitions": len(self._latency_ms[position]),
            "half_width": None if math.isinf(width) else width,
        }

    def _recall(self) -> None:
        """Take down what earlier sessions measured."""
        if not self._dataset.completed_requests():
            return
        rows = self._dataset.read()
        for request_id, measured in rows[~rows["is_warmup"]].groupby("request_id"):
            self._note(int(str(request_id)), measured)

    def _note(self, request_id: int, rows: pd.DataFrame) -> None:
        self._latency_ms[self._position(request_id)].append(typical_latency_ms(rows))
