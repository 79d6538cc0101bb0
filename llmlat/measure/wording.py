"""What a person is told before and after measuring."""

import logging
from typing import Any

from llmlat.config import CollectConfig, Config
from llmlat.dataset import Dataset
from llmlat.measure.estimate import estimate_seconds, warm_up_seconds
from llmlat.measure.machine.environment import device_name
from llmlat.measure.plan import Plan
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.schedule import n_repetitions, wanted_half_width
from llmlat.measure.resuming import say_measured, say_resumed

log = logging.getLogger(__name__)


def announce(config: Config, plan: Plan, dataset: Dataset, n_requests: int, pending: list[Request]) -> None:
    """Say what will be measured, or that it has been."""
    for notice in plan.source.notices:
        log.warning(notice)
    what = _what(config, plan, n_requests)
    if not pending:
        say_measured(dataset, what)
        return
    seconds = estimate_seconds(plan.source.hf_config, pending, config.quantization.name, plan.device.type)
    roughly = "for as long as it takes"
    if seconds is not None:
        roughly = f"roughly {duration(seconds + warm_up_seconds(config.collect))} after loading"
    log.info(f"Measuring {what}; {roughly}{_open_end(config.collect)}.")
    if n_repetitions(config.collect) > config.collect.repetitions:
        log.info(f"collect.until_ci takes {n_repetitions(config.collect)} repetitions at least.")
    say_resumed(dataset)


def misfit_line(entry: dict[str, Any], n_larger: int) -> str:
    """Say that a request did not fit, what it wanted, and what was not tried because of it."""
    wanted = entry["wanted_bytes"]
    total = entry["memory_total_bytes"]
    of = f" of {_gigabytes(total)}" if total else ""
    size = f"; it wanted {_gigabytes(wanted)} more{of}" if wanted else ""
    larger = f"; {n_larger} as large or larger were not tried" if n_larger else ""
    return (
        f"Out of memory: request {entry['request_id']} ({', '.join(dict.fromkeys(entry['prompt_ids']))}; "
        f"engine {entry['engine']}, batch {entry['batch_size']}, beams {entry['num_beams']}, "
        f"{entry['prompt_tokens']} prompt tokens) at token {entry['at_token']}{size}{larger}."
    )


def duration(seconds: float) -> str:
    """Return a time span in round words."""
    if seconds < 90:
        return f"{max(round(seconds, -1 if seconds > 20 else 0), 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _what(config: Config, plan: Plan, n_requests: int) -> str:
    requests = f"{n_requests} request{'' if n_requests == 1 else 's'}"
    return (
        f"{plan.n_tokens} tokens of {requests} ({config.prompt_set.name}): "
        f"{plan.source.name}, {plan.source.weights} weights, quantization {config.quantization.name}, "
        f"engine {' and '.join(plan.engines)}, on {device_name(plan.device)}"
    )


def _open_end(collect: CollectConfig) -> str:
    share = wanted_half_width(collect)
    until = f", then until every median is known to ±{100 * share:g} %" if share is not None else ""
    within = f", within {collect.budget_s:g} s" if collect.budget_s is not None else ""
    return until + within


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
