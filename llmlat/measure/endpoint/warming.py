"""Warming a server up, by the protocol's own rule, one request at a time."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from llmlat.config import CollectConfig
from llmlat.errors import MeasurementError
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.warmup import WarmUp, warm_cell

Generate = Callable[[Request, int], pd.DataFrame]


class NoTokensError(Exception):
    """An answer that is whole and holds no tokens: the model had nothing to say."""


def warm_up(
    pending: list[Request], collect: CollectConfig, generate: Generate
) -> tuple[pd.DataFrame, WarmUp]:
    """Warm every cell up, the first one until its latency has settled where `collect.warmup` is auto.

    Parameters
    ----------
    pending : list of Request
    collect : CollectConfig
    generate : callable
        Generates so many tokens of a request, with nothing else in flight, and returns their rows; it raises
        `NoTokensError` where there are none.

    Raises
    ------
    MeasurementError
        Where the server answers no prompt of a cell with a token.
    """
    parts: list[pd.DataFrame] = []
    warm_ups: list[WarmUp] = []
    for cell in dict.fromkeys(request.cell for request in pending):
        requests = [request for request in pending if request.cell == cell]
        rows, described = _first_that_is_answered(requests, collect, generate, is_first=not parts)
        parts.append(rows)
        warm_ups.append(described)
    return pd.concat(parts, ignore_index=True), warm_ups[0]


def _first_that_is_answered(
    requests: list[Request], collect: CollectConfig, generate: Generate, *, is_first: bool
) -> tuple[pd.DataFrame, WarmUp]:
    for request in requests:
        try:
            return warm_cell(partial(generate, request), collect, request.max_new_tokens, is_first=is_first)
        except NoTokensError:
            continue
    raise MeasurementError("the warm-up was not answered (the server generates no tokens)")
