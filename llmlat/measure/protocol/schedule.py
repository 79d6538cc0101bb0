"""In which order requests are measured, and how often."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from llmlat.config import CollectConfig, Flagged
from llmlat.errors import ConfigError
from llmlat.measure.prompts import MOST_TOKENS, Request
from llmlat.measure.protocol.intervals import MIN_REPETITIONS

# However wide an interval stays, it is not for want of repetitions.
MAX_REPETITIONS = 100
# All requests are planned before the first one, and each has a file of its own.
MOST_REQUESTS = 1_000_000
A_DAY_S = 86_400


def check_collect(collect: CollectConfig) -> None:
    """Refuse a protocol that is none.

    Raises
    ------
    ConfigError
    """
    if not 1 <= collect.repetitions <= MOST_REQUESTS:
        raise ConfigError(
            f"collect.repetitions={collect.repetitions}: use a whole number from 1 to {MOST_REQUESTS}."
        )
    if isinstance(collect.warmup, str) and collect.warmup != "auto":
        raise ConfigError(f"collect.warmup={collect.warmup}: use auto, or a number of tokens.")
    if not isinstance(collect.warmup, str) and not 0 <= collect.warmup <= MOST_TOKENS:
        raise ConfigError(
            f"collect.warmup={collect.warmup}: use auto, or a whole number from 0 to {MOST_TOKENS}."
        )
    if not 0 <= collect.warmup_floor_s <= collect.warmup_ceiling_s < math.inf:
        raise ConfigError(
            f"collect.warmup_floor_s={collect.warmup_floor_s}, collect.warmup_ceiling_s="
            f"{collect.warmup_ceiling_s}: use seconds of at least 0, the floor not above the ceiling."
        )
    if collect.budget_s is not None and not 0 < collect.budget_s < math.inf:
        raise ConfigError(f"collect.budget_s={collect.budget_s}: use seconds above 0, or null for no budget.")
    if collect.retries < 0:
        raise ConfigError(f"collect.retries={collect.retries}: use a whole number of at least 0.")
    if not 0 <= collect.cool_down_s <= A_DAY_S:
        raise ConfigError(f"collect.cool_down_s={collect.cool_down_s}: use seconds from 0 to {A_DAY_S}.")
    wanted_half_width(collect)


def deciding(collect: CollectConfig) -> dict[str, Any]:
    """Return the part of the protocol that decides what is measured, and not what is fitted."""
    settings = asdict(collect)
    is_retried = collect.flagged is Flagged.retry
    for name in () if is_retried else ("flagged", "retries", "cool_down_s"):
        settings.pop(name)
    return settings


def wanted_half_width(collect: CollectConfig) -> float | None:
    """Return `collect.until_ci` as a share of the median, or None.

    Raises
    ------
    ConfigError
    """
    given = collect.until_ci
    if given is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", str(given))
    share = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if not 0 < share < 1:
        raise ConfigError(f"collect.until_ci={given}: use a share of the median, 2% or 0.02, or null.")
    return share


def n_repetitions(collect: CollectConfig) -> int:
    """Return how often everything is measured in any case, but for the budget: an interval takes three."""
    return max(collect.repetitions, MIN_REPETITIONS if collect.until_ci is not None else 1)


def is_open_ended(collect: CollectConfig) -> bool:
    """Whether how much is measured is decided while measuring."""
    return collect.until_ci is not None or collect.budget_s is not None


def planned(single_pass: Sequence[Request], collect: CollectConfig, seed: int) -> list[Request]:
    """Return the requests that are measured in any case: every repetition of a pass, one after the other.

    Raises
    ------
    ConfigError
        Where they are more than a measurement can keep.
    """
    n_requests = n_repetitions(collect) * len(single_pass)
    if n_requests > MOST_REQUESTS:
        raise ConfigError(
            f"collect.repetitions={collect.repetitions}: {n_requests:,} requests are more than the "
            f"{MOST_REQUESTS:,} of a measurement; use fewer repetitions, or prompt_set.limit."
        )
    return [
        request
        for repetition in range(n_repetitions(collect))
        for request in repeated(single_pass, collect, repetition, seed)
    ]


def repeated(
    single_pass: Sequence[Request], collect: CollectConfig, repetition: int, seed: int
) -> list[Request]:
    """Return one repetition of a pass, in an order of its own.

    Every repetition is a whole pass, and the order within it is drawn (a randomised complete block design):
    drift falls on all cells alike. What is measured once, in one cell, keeps the prompt set's order.

    Parameters
    ----------
    single_pass : sequence of Request
        From `llmlat.measure.prompts.plan_requests`.
    collect : CollectConfig
    repetition : int
        Which repetition, from 0.
    seed : int
    """
    n = len(single_pass)
    return [
        replace(single_pass[position], request_id=repetition * n + place, repetition=repetition)
        for place, position in enumerate(order_of(n, collect, repetition, seed))
    ]


def order_of(n: int, collect: CollectConfig, repetition: int, seed: int) -> list[int]:
    """Return which request of a pass of `n` has which place in a repetition."""
    is_crossed = any(asdict(collect.interleave).values())
    if n_repetitions(collect) == 1 and not is_crossed:
        return list(range(n))
    return [int(position) for position in np.random.default_rng([seed, repetition]).permutation(n)]
