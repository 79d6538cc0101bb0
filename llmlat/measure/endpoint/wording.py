"""What a person is told before a server is measured."""

import logging

from llmlat.config import Config
from llmlat.dataset import Dataset
from llmlat.measure.endpoint.plan import EndpointPlan
from llmlat.measure.endpoint.settings import Arrival, Endpoint
from llmlat.measure.prompts import Request
from llmlat.measure.resuming import say_measured, say_resumed

log = logging.getLogger(__name__)


def announce(
    config: Config, plan: EndpointPlan, dataset: Dataset, n_requests: int, pending: list[Request]
) -> None:
    """Say what will be measured, or that it has been."""
    requests = f"{n_requests} request{'' if n_requests == 1 else 's'}"
    what = (
        f"up to {plan.n_steps} tokens of {requests} ({config.prompt_set.name}): {plan.model} at "
        f"{plan.endpoint.base_url}, {arrival_words(plan.endpoint)}"
    )
    if not pending:
        say_measured(dataset, what)
        return
    log.info(f"Measuring {what}.")
    if config.prompt_set.prompt_tokens:
        log.info(
            f"The prompts are cut with the tokenizer of {config.model.name}; prompt_tokens says what the "
            "server counts, its template included."
        )
    say_resumed(dataset)
    wanted = plan.endpoint.concurrency or 1
    if plan.endpoint.arrival is Arrival.closed_loop and len(pending) < wanted:
        log.warning(
            f"engine.concurrency={wanted}: only {len(pending)} requests are to be measured, so no more are "
            "in flight; raise collect.repetitions or the prompts."
        )


def arrival_words(endpoint: Endpoint) -> str:
    """Say how requests arrive."""
    if endpoint.arrival is Arrival.one_at_a_time:
        return "one request at a time"
    if endpoint.arrival is Arrival.closed_loop:
        return f"{endpoint.concurrency} requests in flight"
    most = f", at most {endpoint.concurrency} in flight" if endpoint.concurrency else ""
    return f"{endpoint.rate_per_s:g} requests a second (Poisson){most}"
