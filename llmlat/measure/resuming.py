"""Measuring into a dataset, whichever way: it is held alone, and resumed where an earlier run stopped."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from tqdm import tqdm

from llmlat.config import Config
from llmlat.dataset import Dataset
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.agenda import Agenda, Planned
from llmlat.measure.protocol.schedule import is_open_ended

log = logging.getLogger(__name__)

OnRequest = Callable[[Request, pd.DataFrame], None]
"""Told each request and its rows once they are on disk, between requests."""


class MeasuringPlan(Planned, Protocol):
    """What every plan tells."""

    @property
    def n_steps(self) -> int:
        """Steps that the requests take."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the measurement; its hash is the dataset's key."""


@contextmanager
def holding_dataset(config: Config, plan: MeasuringPlan) -> Iterator[tuple[Dataset, Agenda]]:
    """Hold the dataset of a plan within the block, waiting while another process measures into it.

    Yields
    ------
    dataset : Dataset
    agenda : Agenda
        What is not on disk yet.
    """
    dataset = Dataset.create(
        Path(config.datasets_dir),
        plan.identity,
        len(plan.requests),
        is_finished=not is_open_ended(config.collect),
    )
    with dataset.alone():
        yield dataset, Agenda(plan, config.collect, config.seed, dataset)


def say_measured(dataset: Dataset, what: str) -> None:
    """Say that nothing is left to measure."""
    log.info(f"Already measured: {what}. Using dataset {dataset.key}.", extra={"is_routine": True})


def say_resumed(dataset: Dataset) -> None:
    """Say what an earlier run left, if there was one."""
    if n_done := len(dataset.accounted_requests()):
        log.info(f"Resuming dataset {dataset.key}: {n_done} requests are on disk.")


def kept_line(dataset: Dataset, agenda: Agenda) -> str:
    """Say what a run that breaks off leaves behind, and how to go on."""
    kept = (
        f"{len(dataset.completed_requests())} of {len(agenda.requests)} requests are kept in {dataset.folder}"
    )
    return f"{kept}; run the same command to resume there"


def progress_bar(requests: Sequence[Request]) -> "tqdm[Any]":
    """Return a bar of the steps that requests take; there is none where the output is no terminal."""
    # tqdm's monitor would wake a thread beside the measurement.
    tqdm.monitor_interval = 0
    total = sum(request.max_new_tokens for request in requests)
    return tqdm(total=total, desc="measuring", unit="tok", disable=None, dynamic_ncols=True)
