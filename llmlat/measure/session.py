"""One measuring session: from a config to a complete dataset, resuming where an earlier one stopped."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from llmlat.config import Config
from llmlat.dataset import Dataset
from llmlat.errors import MeasurementError
from llmlat.measure.collect import Collector, RequestBrokenOffError, set_aside_from_garbage_collection
from llmlat.measure.device import is_out_of_memory
from llmlat.measure.device_lock import alone_on
from llmlat.measure.environment import describe_session, device_name
from llmlat.measure.estimate import estimate_seconds
from llmlat.measure.generators import Generators
from llmlat.measure.neighbours import notice_foreign_processes
from llmlat.measure.plan import Plan
from llmlat.measure.prompts import Request
from llmlat.measure.rows import WARMUP_REQUEST_ID
from llmlat.measure.timers import make_timer

log = logging.getLogger(__name__)

OnRequest = Callable[[Request, pd.DataFrame], None]


def measure(
    config: Config,
    plan: Plan,
    resolved_config: dict[str, Any],
    on_request: OnRequest,
    folder: Path = Path(),
) -> Dataset:
    """Measure what a plan says and is not yet on disk.

    Parameters
    ----------
    config : Config
    plan : Plan
    resolved_config : dict
        The composed config, kept in provenance.
    on_request : callable
        Called with each request and its rows, between requests.
    folder : Path
        The run folder, named to other runs that wait for the device.

    Returns
    -------
    Dataset
        Complete.

    Raises
    ------
    MeasurementError
        Where memory ran out in the middle of a request; the rows before it are kept.
    KeyboardInterrupt
        After Ctrl-C, saying what is kept and how to resume.
    """
    dataset = Dataset.create(Path(config.datasets_dir), plan.identity, len(plan.requests))
    with dataset.alone():
        _measure_pending(config, plan, resolved_config, dataset, on_request, folder)
    return dataset


def _measure_pending(
    config: Config,
    plan: Plan,
    resolved_config: dict[str, Any],
    dataset: Dataset,
    on_request: OnRequest,
    folder: Path,
) -> None:
    """Measure the requests that are not yet on disk, keeping what there is when that breaks off."""
    done = dataset.completed_requests()
    pending = [request for request in plan.requests if request.request_id not in done]
    _announce(config, plan, dataset, pending)
    if not pending:
        return
    try:
        with alone_on(plan.device, folder):
            session = {
                **describe_session(plan.device),
                "foreign_processes": notice_foreign_processes(plan.device),
                "config": resolved_config,
                "notices": list(plan.source.notices),
            }
            _run_session(config, plan, dataset, session, pending, on_request)
    except RequestBrokenOffError as error:
        _keep_and_explain(error, dataset, len(plan.requests))
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_kept(dataset, len(plan.requests))) from interrupt
    finally:
        if plan.device.type == "cuda":
            torch.cuda.empty_cache()


def _run_session(
    config: Config,
    plan: Plan,
    dataset: Dataset,
    session: dict[str, Any],
    pending: list[Request],
    on_request: OnRequest,
) -> None:
    """Load the model and run the pending requests; the model goes when this returns."""
    generators = Generators(config, plan)
    session_id = dataset.add_session(session)
    collector = Collector(make_timer(plan.device), session_id, config.seed)
    with set_aside_from_garbage_collection():
        _collect(collector, generators, dataset, pending, int(config.collect.warmup), on_request)


def _announce(config: Config, plan: Plan, dataset: Dataset, pending: list[Request]) -> None:
    for notice in plan.source.notices:
        log.warning(notice)
    what = (
        f"{plan.n_steps} tokens of {len(plan.requests)} requests ({config.prompt_set.name}): "
        f"{plan.source.name}, {plan.source.weights} weights, quantization {config.quantization.name}, "
        f"engine {' and '.join(plan.engines)}, on {device_name(plan.device)}"
    )
    if not pending:
        log.info(f"Already measured: {what}. Using dataset {dataset.key}.", extra={"is_routine": True})
        return
    seconds = estimate_seconds(plan.source.hf_config, pending, config.quantization.name, plan.device.type)
    log.info(f"Measuring {what}; roughly {_duration(seconds)} after loading.")
    if len(pending) < len(plan.requests):
        log.info(f"Resuming dataset {dataset.key}: {len(plan.requests) - len(pending)} requests are on disk.")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds, -1 if seconds > 20 else 0), 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _collect(
    collector: Collector,
    generators: Generators,
    dataset: Dataset,
    pending: list[Request],
    warmup_tokens: int,
    on_request: OnRequest,
) -> None:
    """Run the pending requests; files, progress and tracking come between them, never within."""
    if warmup_tokens:
        warmup = collector.warm_up(pending[0], warmup_tokens, *generators.of(pending[0].cell))
        dataset.append_warmup(collector.session_id, warmup)
    # tqdm's monitor would wake a thread beside the measurement.
    tqdm.monitor_interval = 0
    total = sum(request.max_new_tokens for request in pending)
    with tqdm(total=total, desc="measuring", unit="tok", disable=None, dynamic_ncols=True) as progress:
        for request in pending:
            rows = collector.measure(request, *generators.of(request.cell))
            dataset.append_request(request.request_id, rows)
            on_request(request, rows)
            progress.update(request.max_new_tokens)


def _kept(dataset: Dataset, n_requests: int) -> str:
    kept = f"{len(dataset.completed_requests())} of {n_requests} requests are kept in {dataset.folder}"
    return f"{kept}; run the same command to resume there"


def _keep_and_explain(error: RequestBrokenOffError, dataset: Dataset, n_requests: int) -> None:
    """Keep the rows of a broken-off request, and raise what a person should see."""
    request, cause = error.request, error.__cause__
    is_warmup = request.request_id == WARMUP_REQUEST_ID
    what = "the warm-up" if is_warmup else f"request {request.request_id}"
    # The frames hold the model, and a sweep holds the exception while its next job loads another model.
    for link in (error, cause):
        traceback.clear_frames(link.__traceback__ if link else None)
    if len(error.rows) and not is_warmup:
        dataset.keep_partial(request.request_id, error.rows)
    kept = _kept(dataset, n_requests)
    if isinstance(cause, KeyboardInterrupt):
        raise KeyboardInterrupt(kept) from error
    if cause is not None and is_out_of_memory(cause):
        raise MeasurementError(
            f"out of memory in {what} ({request.name}: {request.prompt_tokens} prompt tokens) at token "
            f"{len(error.rows)}. {kept}. Shorten the prompts (prompt_set), lower prompt_set.max_new_tokens, "
            "or use quantization=nf4."
        ) from cause
    log.error(f"{what} ({request.name}) failed; {kept}.")
    if cause is not None:
        raise cause
