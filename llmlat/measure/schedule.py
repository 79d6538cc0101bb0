"""In which order requests are measured, and how often."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from llmlat.config import CollectConfig
from llmlat.errors import ConfigError
from llmlat.measure.prompts import Request


def check_collect(collect: CollectConfig) -> None:
    """Refuse a protocol that is none.

    Raises
    ------
    ConfigError
    """
    if collect.repetitions < 1:
        raise ConfigError(f"collect.repetitions={collect.repetitions}: use a whole number of at least 1.")
    if isinstance(collect.warmup, str) and collect.warmup != "auto":
        raise ConfigError(f"collect.warmup={collect.warmup}: use auto, or a number of tokens.")
    if not isinstance(collect.warmup, str) and collect.warmup < 0:
        raise ConfigError(f"collect.warmup={collect.warmup}: use auto, or a whole number of at least 0.")


def planned(single_pass: Sequence[Request], collect: CollectConfig, seed: int) -> list[Request]:
    """Return the requests that are measured in any case: every repetition of a pass, one after the other."""
    return [
        request
        for repetition in range(collect.repetitions)
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
    is_crossed = any(asdict(collect.interleave).values())
    is_shuffled = collect.repetitions > 1 or collect.until_ci is not None or is_crossed
    order = np.random.default_rng([seed, repetition]).permutation(n) if is_shuffled else range(n)
    return [
        replace(single_pass[position], request_id=repetition * n + place, repetition=repetition)
        for place, position in enumerate(order)
    ]
