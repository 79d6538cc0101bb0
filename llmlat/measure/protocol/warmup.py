"""Warming up: generating until the latency has settled, before anything counts.

With `collect.warmup=auto` the first pending request is generated over and over, at most 32 steps a pass,
until `llmlat.measure.protocol.settling` finds the latency settled, or the ceiling is reached. The clock is
that of the rows.

What settles is the process and the device (clocks, heat, caches, the libraries' threads), and one cell is
enough to see it. A cell has costs of its own beside (kernels to load, workspaces to allocate), which come
once: every other cell generates a short pass before anything counts. That its latency has settled is
inferred from the first, not observed; repetitions in random order spread what is left over all cells alike.

A fixed number of tokens is generated in every cell; 0 is the thesis's protocol.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from llmlat.config import CollectConfig
from llmlat.dataset import Dataset
from llmlat.measure.protocol.settling import RULE, Settled, judge
from llmlat.steps import one_row_a_step

log = logging.getLogger(__name__)

PASS_STEPS = 32
OTHER_CELL_STEPS = 8
# Judging looks at every step so far: it waits until the series has grown by a tenth, and its cost stays in
# proportion.
GROWTH = 1.1

Generate = Callable[[int], pd.DataFrame]


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up went.

    Attributes
    ----------
    rule : str
    seconds : float
        From its first step's beginning to its last step's end.
    n_tokens : int
        Steps: tokens of each sequence.
    settled : bool or None
        None where the rule was not asked.
    settled_after_tokens : int or None
        Steps before the first that belongs to the settled part.
    start_ratio : float or None
        The first judged batch over the settled level.
    first_visit_ratio : float or None
        The median of the steps that were a shape's first, over the median of the others.
    """

    rule: str
    seconds: float
    n_tokens: int
    settled: bool | None = None
    settled_after_tokens: int | None = None
    start_ratio: float | None = None
    first_visit_ratio: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return it for provenance."""
        return asdict(self)


def warm_cell(
    generate: Generate, collect: CollectConfig, max_new_tokens: int, *, is_first: bool
) -> tuple[pd.DataFrame, WarmUp]:
    """Warm one cell up: until the latency has settled, for a short pass, or for a fixed number of tokens.

    Parameters
    ----------
    generate, collect, max_new_tokens
        As in `settle`.
    is_first : bool
        Whether no cell has been warmed up yet.

    Returns
    -------
    rows : DataFrame
    warm_up : WarmUp
    """
    if collect.warmup == "auto" and is_first:
        return settle(generate, collect, max_new_tokens)
    is_fixed = collect.warmup != "auto"
    n_tokens = int(collect.warmup) if is_fixed else min(OTHER_CELL_STEPS, max_new_tokens)
    rows = generate(n_tokens)
    return rows, fixed(rows, n_tokens)


def settle(generate: Generate, collect: CollectConfig, max_new_tokens: int) -> tuple[pd.DataFrame, WarmUp]:
    """Generate one request until its latency has settled, or the ceiling is reached.

    Parameters
    ----------
    generate : callable
        Generates so many tokens of the request, and returns their rows.
    collect : CollectConfig
    max_new_tokens : int
        The request's; a pass is no longer.

    Returns
    -------
    rows : DataFrame
    warm_up : WarmUp
    """
    passes: list[pd.DataFrame] = []
    n_judged = 0
    while True:
        passes.append(generate(min(PASS_STEPS, max_new_tokens)))
        seconds = _seconds(passes)
        is_over = seconds >= collect.warmup_ceiling_s
        n_steps = sum(map(len, passes))
        if seconds < collect.warmup_floor_s or (n_steps < GROWTH * n_judged and not is_over):
            continue
        n_judged = n_steps
        rows = pd.concat(passes, ignore_index=True)
        settled = judge(one_row_a_step(rows), collect.warmup_floor_s)
        if settled or is_over:
            return rows, _described(rows, settled)


def fixed(rows: pd.DataFrame, n_tokens: int) -> WarmUp:
    """Describe a warm-up of a fixed number of tokens."""
    return WarmUp(f"{n_tokens} tokens", _seconds([rows]), len(one_row_a_step(rows)))


def keep_warm_up(dataset: Dataset, session_id: int, rows: pd.DataFrame, warm_up: WarmUp) -> bool:
    """Put a session's warm-up on disk, and say how it went.

    Returns
    -------
    bool
        False where the rows of the session are to be flagged: the latency had not settled.
    """
    dataset.append_warmup(session_id, rows)
    dataset.update_session(session_id, warmup=warm_up.describe())
    if warm_up.settled is False:
        log.warning(
            f"The latency had not settled after {warm_up.seconds:.0f} s of warm-up "
            "(collect.warmup_ceiling_s): the rows of this session are flagged not_settled."
        )
    elif warm_up.settled:
        log.info(
            f"Warmed up for {warm_up.seconds:.1f} s, {warm_up.n_tokens} tokens; settled after "
            f"{warm_up.settled_after_tokens}. At first a token took {warm_up.start_ratio:.2f} times as long.",
            extra={"is_routine": True},
        )
    return warm_up.settled is not False


def _described(rows: pd.DataFrame, settled: Settled | None) -> WarmUp:
    steps = one_row_a_step(rows)
    return WarmUp(
        RULE,
        _seconds([rows]),
        len(steps),
        settled is not None,
        settled.from_step if settled else None,
        settled.start_ratio if settled else None,
        _first_visit_ratio(steps),
    )


def _first_visit_ratio(steps: pd.DataFrame) -> float | None:
    decoded = steps[steps["token_index"] > 0] if (steps["token_index"] > 0).any() else steps
    medians = decoded.groupby("first_visit")["token_latency_ms"].median()
    return float(medians[True] / medians[False]) if len(medians) == 2 else None


def _seconds(passes: list[pd.DataFrame]) -> float:
    first, last = passes[0].iloc[0], passes[-1]["completed_at_ns"].max()
    return float(last - first["completed_at_ns"]) / 1e9 + float(first["token_latency_ms"]) / 1e3
