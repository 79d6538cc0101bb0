"""One measuring session: from a config to a complete dataset, resuming where an earlier one stopped."""

import logging
import traceback
from pathlib import Path
from typing import Any

import torch

from llmlat.config import Config
from llmlat.dataset import Dataset, key_of
from llmlat.errors import MeasurementError
from llmlat.measure.collect import Collector, RequestBrokenOffError, set_aside_from_garbage_collection
from llmlat.measure.generators import Generators
from llmlat.measure.machine.bandwidth import copy_bandwidth
from llmlat.measure.machine.device import is_out_of_memory
from llmlat.measure.machine.device_lock import alone_on
from llmlat.measure.machine.environment import describe_session, mark_cost_ns
from llmlat.measure.machine.neighbours import notice_foreign_processes
from llmlat.measure.machine.pauses import PauseWatch
from llmlat.measure.measuring import Measuring
from llmlat.measure.plan import Plan
from llmlat.measure.protocol.agenda import Agenda
from llmlat.measure.protocol.memory import OUT_OF_MEMORY
from llmlat.measure.resuming import OnRequest, holding_dataset, kept_line
from llmlat.measure.telemetry import Telemetry, open_telemetry
from llmlat.measure.timers import make_timer
from llmlat.measure.wording import announce, misfit_line

log = logging.getLogger(__name__)


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
        Complete: every request was measured, or does not fit into memory and is recorded as such.

    Raises
    ------
    MeasurementError
        Where nothing at all fits into memory.
    KeyboardInterrupt
        After Ctrl-C, saying what is kept and how to resume.
    """
    with holding_dataset(config, plan) as (dataset, agenda):
        _measure_pending(config, plan, resolved_config, dataset, agenda, on_request, folder)
    return dataset


def find_measured(config: Config, plan: Plan) -> Dataset | None:
    """Return the dataset of a plan where nothing is left to measure, and say so; None otherwise."""
    dataset = Dataset(Path(config.datasets_dir) / key_of(plan.identity))
    if not dataset.folder.is_dir() or not dataset.is_complete:
        return None
    announce(config, plan, dataset, int(dataset.provenance["n_requests"]), pending=[])
    _report_skipped(dataset)
    return dataset


def _measure_pending(
    config: Config,
    plan: Plan,
    resolved_config: dict[str, Any],
    dataset: Dataset,
    agenda: Agenda,
    on_request: OnRequest,
    folder: Path,
) -> None:
    """Measure the requests that are not yet on disk, keeping what there is when that breaks off."""
    pending = agenda.pending()
    announce(config, plan, dataset, len(agenda.requests), pending)
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
            _run_session(config, plan, dataset, session, agenda, on_request)
    except RequestBrokenOffError as error:
        _keep_and_explain(error, dataset, agenda)
    except KeyboardInterrupt as interrupt:
        traceback.clear_frames(interrupt.__traceback__)
        raise KeyboardInterrupt(kept_line(dataset, agenda)) from interrupt
    finally:
        if plan.device.type == "cuda":
            torch.cuda.empty_cache()
    _report_skipped(dataset)


def _run_session(
    config: Config,
    plan: Plan,
    dataset: Dataset,
    session: dict[str, Any],
    agenda: Agenda,
    on_request: OnRequest,
) -> None:
    """Load the model and measure what is on the agenda; the model goes when this returns."""
    # Before the model takes the memory that the copies need.
    bandwidth = copy_bandwidth(plan.device)
    generators = Generators(config, plan)
    timer = make_timer(plan.device)
    session_id = dataset.add_session(
        {
            **session,
            "model": generators.model_facts,
            "memory_bandwidth_bytes_per_s": bandwidth,
            "collector_cost": {"mark_ns": mark_cost_ns(timer)},
        }
    )
    collector = Collector(timer, session_id, config.seed)
    with (
        open_telemetry(plan.device, config.collect, collector.epoch_offset_ns) as telemetry,
        PauseWatch(collector.epoch_offset_ns) as pauses,
        set_aside_from_garbage_collection(),
    ):
        measuring = Measuring(
            config, dataset, agenda, generators, collector, telemetry, pauses, plan.device, on_request
        )
        try:
            measuring.run()
        finally:
            _close_session(dataset, session_id, telemetry, measuring, generators.preparations())
    if measuring.first_misfit is not None and not dataset.completed_requests():
        raise measuring.first_misfit


def _close_session(
    dataset: Dataset,
    session_id: int,
    telemetry: Telemetry,
    measuring: Measuring,
    preparations: list[dict[str, Any]],
) -> None:
    """Keep what a session knows at its end, however it ends."""
    samples = telemetry.samples()
    if len(samples):
        dataset.append_telemetry(session_id, samples)
    dataset.end_session(
        session_id,
        telemetry=telemetry.describe(),
        retries=measuring.retries.describe(),
        preparations=preparations,
    )


def _report_skipped(dataset: Dataset) -> None:
    """Say what did not fit."""
    skipped = dataset.skipped()
    for entry in (entry for entry in skipped if entry["reason"] == OUT_OF_MEMORY):
        n_larger = sum(other["because_of"] == entry["request_id"] for other in skipped)
        log.warning(misfit_line(entry, n_larger))
    if skipped:
        log.warning(
            f"{len(skipped)} requests were skipped for want of memory; deleting "
            f"{dataset.folder / 'skipped'} has them tried again."
        )


def _keep_and_explain(error: RequestBrokenOffError, dataset: Dataset, agenda: Agenda) -> None:
    """Keep the rows of a broken-off request, and raise what a person should see."""
    request, cause = error.request, error.__cause__
    what = "the warm-up" if request.is_warm_up else f"request {request.request_id}"
    # The frames hold the model, and a sweep holds the exception while its next job loads another model.
    for link in (error, cause):
        traceback.clear_frames(link.__traceback__ if link else None)
    if len(error.rows) and not request.is_warm_up:
        dataset.keep_partial(request.request_id, error.rows)
    kept = kept_line(dataset, agenda)
    if isinstance(cause, KeyboardInterrupt):
        raise KeyboardInterrupt(kept) from error
    if cause is not None and is_out_of_memory(cause):
        # Nothing fits: a second run, with more memory free, should try again.
        dataset.forget_skipped()
        raise MeasurementError(
            f"out of memory in {what} ({request.name}: {request.prompt_tokens} prompt tokens), and nothing "
            f"else fits. {kept}. Shorten the prompts (prompt_set), lower prompt_set.max_new_tokens or "
            "decoding.batch_size, or use quantization=nf4."
        ) from cause
    log.error(f"{what} ({request.name}) failed; {kept}.")
    if cause is not None:
        raise cause
