"""Measuring a flagged request again, after cooling down; what is set aside is kept."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from llmlat.config import CollectConfig, Flagged
from llmlat.measure.prompts import Request
from llmlat.records import FLAG_SEPARATOR

log = logging.getLogger(__name__)

NOT_SETTLED = "not_settled"
"""A flag of the whole session: measuring the request again would not take it away."""


def flags_in(rows: pd.DataFrame) -> set[str]:
    """Return the flags that any of the rows has."""
    return {flag for flags in rows["flags"].unique() for flag in flags.split(FLAG_SEPARATOR) if flag}


def with_flag(rows: pd.DataFrame, flag: str) -> pd.DataFrame:
    """Return the rows with a flag more."""
    return rows.assign(flags=[f"{flags}{FLAG_SEPARATOR}{flag}" if flags else flag for flags in rows["flags"]])


class Retries:
    """Measures until a request is not flagged, at most `collect.retries` times more; the last try counts.

    Parameters
    ----------
    collect : CollectConfig
    set_aside : callable
        Keeps the rows of a try that does not count, by the request's number.
    pause : callable, default=time.sleep
        Lets seconds pass.
    """

    def __init__(
        self,
        collect: CollectConfig,
        set_aside: Callable[[int, pd.DataFrame], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most = collect.retries if collect.flagged is Flagged.retry else 0
        self._cool_down_s = collect.cool_down_s
        self._set_aside = set_aside
        self._pause = pause
        self._counts = {"requests": 0, "tries_set_aside": 0, "flagged_to_the_end": 0}

    def measure(self, request: Request, measure_once: Callable[[Request], pd.DataFrame]) -> pd.DataFrame:
        """Return the rows of the try that counts."""
        rows = measure_once(request)
        for retry in range(self._most):
            if not (flags := flags_in(rows) - {NOT_SETTLED}):
                break
            log.info(
                f"Request {request.request_id} ({request.name}) is flagged {', '.join(sorted(flags))}: "
                f"measuring it again in {self._cool_down_s:g} s ({retry + 1} of {self._most})."
            )
            self._counts["requests"] += retry == 0
            self._counts["tries_set_aside"] += 1
            self._set_aside(request.request_id, rows)
            self._pause(self._cool_down_s)
            rows = measure_once(request)
        if self._most and flags_in(rows) - {NOT_SETTLED}:
            self._counts["flagged_to_the_end"] += 1
        return rows

    def describe(self) -> dict[str, Any]:
        """Return for provenance how many requests were measured again, and how many tries were set aside."""
        return dict(self._counts)
