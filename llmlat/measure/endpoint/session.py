"""One measuring session of a server: from a config to a complete dataset, resuming where one stopped."""

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from llmlat.config import Config, ModelConfig
from llmlat.dataset import Dataset
from llmlat.errors import MeasurementError
from llmlat.measure.endpoint.capabilities import IGNORE_EOS, Capabilities, find_capabilities
from llmlat.measure.endpoint.counts import PromptCounts, tokenizer_count
from llmlat.measure.endpoint.loads import Loads
from llmlat.measure.endpoint.measuring import Measuring
from llmlat.measure.endpoint.plan import PACKAGES, EndpointPlan
from llmlat.measure.endpoint.reader import Reader
from llmlat.measure.endpoint.rows import RowMaker
from llmlat.measure.endpoint.wording import announce
from llmlat.measure.machine.host import describe_host, versions
from llmlat.measure.machine.turns import taking_turns
from llmlat.measure.protocol.agenda import Agenda
from llmlat.measure.resuming import OnRequest, holding_dataset, kept_line

log = logging.getLogger(__name__)


def measure(
    config: Config,
    plan: EndpointPlan,
    resolved_config: dict[str, Any],
    on_request: OnRequest,
    folder: Path = Path(),
) -> Dataset:
    """Measure what a plan says and is not yet on disk.

    Parameters
    ----------
    config : Config
    plan : EndpointPlan
    resolved_config : dict
        The composed config, kept in provenance.
    on_request : callable
        Called with each request and its rows.
    folder : Path
        The run folder, named to other runs that wait for the server.

    Returns
    -------
    Dataset
        Complete: every request was answered, or is recorded as not answered.

    Raises
    ------
    MeasurementError
        Where the server does not answer, or no more.
    KeyboardInterrupt
        After Ctrl-C, saying what is kept and how to resume.
    """
    with holding_dataset(config, plan) as (dataset, agenda):
        pending = agenda.pending()
        announce(config, plan, dataset, len(agenda.requests), pending)
        if pending:
            lock_name = f"endpoint-{hashlib.sha256(plan.endpoint.host.encode()).hexdigest()[:16]}"
            with taking_turns(lock_name, plan.endpoint.host, folder):
                _run_session(config, plan, resolved_config, dataset, agenda, on_request)
    return dataset


def _run_session(
    config: Config,
    plan: EndpointPlan,
    resolved_config: dict[str, Any],
    dataset: Dataset,
    agenda: Agenda,
    on_request: OnRequest,
) -> None:
    """Find out what the server takes, and measure what is on the agenda."""
    takes = _ask_capabilities(config, plan)
    counts = PromptCounts(plan, None if takes.counts_prompts else tokenizer_count(plan, config.model))
    notices = _notices(plan, config.model, takes)
    for notice in notices:
        log.warning(notice)
    session_id = dataset.add_session(
        {
            **describe_host(),
            "versions": versions((*PACKAGES, "numpy", "pandas")),
            "config": resolved_config,
            "notices": notices,
            "collector_cost": {"mark_ns": clock_cost_ns()},
            "endpoint": _describe(plan, takes),
        }
    )
    with Reader(plan.endpoint) as reader:
        rows = RowMaker(session_id, reader.epoch_offset_ns)
        loads = Loads(plan, takes.fields, config.seed)
        measuring = Measuring(config, dataset, agenda, loads, reader, rows, counts, on_request)
        try:
            measuring.run()
        except KeyboardInterrupt as interrupt:
            measuring.break_off()
            raise KeyboardInterrupt(kept_line(dataset, agenda)) from interrupt
        except MeasurementError as error:
            measuring.break_off()
            where = f"engine.base_url={plan.endpoint.base_url}"
            raise MeasurementError(f"{where}: {error}; {kept_line(dataset, agenda)}.") from error
        finally:
            _close_session(plan, takes, dataset, measuring, rows)
    for warning in measuring.tally.warnings():
        log.warning(warning)
    _report_skipped(dataset)


def _ask_capabilities(config: Config, plan: EndpointPlan) -> Capabilities:
    """Ask the server what it takes, and say what it does not."""
    stops_at_eos = config.decoding.stop_at_eos
    question = plan.body(plan.single_pass[0].as_warm_up(1), config.seed, {})
    takes = find_capabilities(plan.endpoint, question, stops_at_eos)
    if not stops_at_eos and not IGNORE_EOS.keys() & {**takes.fields, **plan.endpoint.extra}.keys():
        log.info("The server takes no ignore_eos: a request may end before prompt_set.max_new_tokens.")
    return takes


def _notices(plan: EndpointPlan, model: ModelConfig, takes: Capabilities) -> list[str]:
    """Return what the results must not be read without, a line each."""
    notices = []
    if takes.other_models:
        notices.append(
            f"The server lists no model {plan.model} (it lists {', '.join(takes.other_models[:10])}) and "
            "answers all the same: the results go by the name that it was asked for; engine.model says which."
        )
    if not takes.counts_prompts:
        notices.append(
            f"The server does not tell how many tokens a prompt has: they are counted with the tokenizer of "
            f"{model.name} (model.tokenizer={model.tokenizer}), and {plan.model} may count otherwise."
        )
    return notices


def _close_session(
    plan: EndpointPlan, takes: Capabilities, dataset: Dataset, measuring: Measuring, rows: RowMaker
) -> None:
    """Keep what a session knows at its end, however it ends."""
    dataset.end_session(
        rows.session_id,
        endpoint={
            **_describe(plan, takes),
            "failed_attempts": dict(measuring.unanswered.failed_attempts),
            **measuring.tally.describe(),
            "unknown_columns": rows.unknown_columns(),
        },
        retries=measuring.retries,
    )


def _describe(plan: EndpointPlan, takes: Capabilities) -> dict[str, Any]:
    endpoint = plan.endpoint
    return {
        "base_url": endpoint.base_url,
        "api": str(endpoint.api),
        "arrival": str(endpoint.arrival),
        "concurrency": endpoint.most_in_flight,
        "rate_per_s": endpoint.rate_per_s,
        "taken_fields": takes.fields,
        "prompt_tokens_from": "server" if takes.counts_prompts else "tokenizer",
    }


def clock_cost_ns(n: int = 256) -> float:
    """Return what noting an arrival adds to it: the median time between two readings of the clock."""
    readings = [time.perf_counter_ns() for _ in range(n)]
    return float(np.median(np.diff(readings)))


def _report_skipped(dataset: Dataset) -> None:
    """Say which requests were not answered.

    Raises
    ------
    MeasurementError
        Where none was.
    """
    skipped = dataset.skipped()
    if skipped and not dataset.completed_requests():
        dataset.forget_skipped()
        raise MeasurementError(f"no request was answered ({skipped[-1]['why']}).")
    if skipped:
        were = "1 request was" if len(skipped) == 1 else f"{len(skipped)} requests were"
        log.warning(f"{were} not answered; deleting {dataset.folder / 'skipped'} has them tried again.")
