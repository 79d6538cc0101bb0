"""One measuring session: from a config to a complete dataset, resuming where an earlier one stopped."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hydra.utils import instantiate
from tqdm import tqdm

from llmlat.config import Config
from llmlat.dataset import Dataset
from llmlat.errors import ConfigError, MeasurementError, one_line
from llmlat.measure.collect import (
    WARMUP_REQUEST_ID,
    Collector,
    RequestBrokenOffError,
    set_aside_from_garbage_collection,
)
from llmlat.measure.decoding import make_chooser
from llmlat.measure.device import is_out_of_memory
from llmlat.measure.device_lock import alone_on
from llmlat.measure.engines import Engine
from llmlat.measure.environment import describe_session, device_name
from llmlat.measure.estimate import estimate_seconds
from llmlat.measure.models import load_model
from llmlat.measure.neighbours import notice_foreign_processes
from llmlat.measure.plan import Plan
from llmlat.measure.prompts import Request
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
    engine, eos_ids = _load_engine(config, plan)
    session_id = dataset.add_session(session)
    collector = Collector(engine, make_timer(plan.device), session_id, eos_ids)
    with set_aside_from_garbage_collection():
        _collect(collector, dataset, pending, config.collect.warmup, on_request)


def _announce(config: Config, plan: Plan, dataset: Dataset, pending: list[Request]) -> None:
    for notice in plan.source.notices:
        log.warning(notice)
    what = (
        f"{plan.n_tokens} tokens of {len(plan.requests)} requests ({config.prompt_set.name}): "
        f"{plan.source.name}, {plan.source.weights} weights, quantization {config.quantization.name}, "
        f"engine {config.engine['name']}, on {device_name(plan.device)}"
    )
    if not pending:
        log.info(f"Already measured: {what}. Using dataset {dataset.key}.", extra={"is_routine": True})
        return
    seconds = estimate_seconds(
        plan.source.hf_config,
        pending,
        config.quantization.name,
        plan.device.type,
        uses_cache=config.engine["name"] != "no_cache",
    )
    log.info(f"Measuring {what}; roughly {_duration(seconds)} after loading.")
    if len(pending) < len(plan.requests):
        log.info(f"Resuming dataset {dataset.key}: {len(plan.requests) - len(pending)} requests are on disk.")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds, -1 if seconds > 20 else 0), 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _load_engine(config: Config, plan: Plan) -> tuple[Engine, frozenset[int]]:
    model = load_model(plan.source, config.quantization.name, plan.device, config.seed)
    chooser = make_chooser(config.decoding, config.seed, plan.device)
    settings = {key: value for key, value in config.engine.items() if key != "name"}
    try:
        engine: Engine = instantiate(settings, model=model, choose=chooser)
    except Exception as error:
        reason = one_line(error.__cause__ or error)
        raise ConfigError(f"engine._target_={settings['_target_']}: cannot be made ({reason}).") from error
    return engine, _eos_ids(model) if config.decoding.stop_at_eos else frozenset()


def _eos_ids(model: Any) -> frozenset[int]:
    """Return the model's end-of-sequence tokens, of which it may have none, one or several."""
    eos = getattr(model.generation_config, "eos_token_id", None) or model.config.eos_token_id
    if eos is None:
        raise ConfigError("decoding.stop_at_eos=true: the model names no end-of-sequence token; use false.")
    return frozenset(eos if isinstance(eos, list) else [eos])


def _collect(
    collector: Collector, dataset: Dataset, pending: list[Request], warmup_tokens: int, on_request: OnRequest
) -> None:
    """Run the pending requests; files, progress and tracking come between them, never within."""
    if warmup_tokens:
        dataset.append_warmup(collector.session_id, collector.warm_up(pending[0], warmup_tokens))
    # tqdm's monitor would wake a thread beside the measurement.
    tqdm.monitor_interval = 0
    total = sum(request.max_new_tokens for request in pending)
    with tqdm(total=total, desc="measuring", unit="tok", disable=None, dynamic_ncols=True) as progress:
        for request, rows in collector.run(pending):
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
            f"out of memory in {what} ({request.prompt_id}: {len(request.token_ids)} prompt tokens) at token "
            f"{len(error.rows)}. {kept}. Shorten the prompts (prompt_set), lower prompt_set.max_new_tokens, "
            "or use quantization=nf4."
        ) from cause
    log.error(f"{what} ({request.prompt_id}) failed; {kept}.")
    if cause is not None:
        raise cause
