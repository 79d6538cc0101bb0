"""Requests that a server does not answer: recorded, as long as it answers others."""

import logging
from collections import Counter
from typing import Any

from llmlat.dataset import Dataset
from llmlat.errors import MeasurementError
from llmlat.measure.endpoint.exchange import Exchange, Outcome
from llmlat.measure.prompts import Request

log = logging.getLogger(__name__)

NOT_ANSWERED = "not_answered"
# One request may be at fault by itself; so many, one after the other, are not.
MOST_IN_A_ROW = 5
_KNOWN_OF_MISFITS = ("at_token", "wanted_bytes", "memory_total_bytes", "memory_peak_bytes", "because_of")


class Unanswered:
    """Takes down what was not answered, and puts it on disk once a later request is.

    Parameters
    ----------
    dataset : Dataset
    session_id : int

    Attributes
    ----------
    failed_attempts : Counter of str
        Attempts that failed, those of requests that were answered later too, by reason.
    """

    def __init__(self, dataset: Dataset, session_id: int) -> None:
        self._dataset = dataset
        self._session_id = session_id
        self._in_a_row: list[dict[str, Any]] = []
        self.failed_attempts: Counter[str] = Counter()

    def add(self, request: Request, exchange: Exchange, why: str, prompt_tokens: int | None) -> None:
        """Take down a request that was not answered.

        Raises
        ------
        MeasurementError
            Where the server has gone, or answers nothing any more.
        """
        self.failed_attempts[exchange.error or "no tokens"] += 1
        if exchange.outcome is Outcome.unreachable:
            raise MeasurementError(f"the server cannot be reached any more ({why})")
        log.warning(f"Request {request.request_id} ({request.name}) was not answered: {why}.")
        self._in_a_row.append(
            {
                **request.describe(),
                "prompt_tokens": prompt_tokens,
                "reason": NOT_ANSWERED,
                "why": why,
                "attempts": 1 + len(exchange.failures),
                **dict.fromkeys(_KNOWN_OF_MISFITS),
                "session_id": self._session_id,
            }
        )
        if len(self._in_a_row) >= MOST_IN_A_ROW:
            raise MeasurementError(f"{MOST_IN_A_ROW} requests in a row were not answered ({why})")

    def record(self) -> None:
        """Put on disk what was taken down: the server is known to answer others."""
        for entry in self._in_a_row:
            self._dataset.skip(entry)
        self._in_a_row.clear()
