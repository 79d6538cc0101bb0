"""Which fields of a request a server takes, found out by asking it for a token. Nothing of this is timed."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import Retrying

from llmlat.errors import MeasurementError, one_line
from llmlat.measure.endpoint.answers import Answer, Counted, read_answer, refusal
from llmlat.measure.endpoint.client import retries, retry_after_s
from llmlat.measure.endpoint.exchange import RETRIED_STATUSES, Exchange, Outcome
from llmlat.measure.endpoint.server import asking, listed_models
from llmlat.measure.endpoint.settings import Endpoint

# What only some servers take, offered to each: to go on to the wanted length, to count at the end, and to
# count as tokens come (vLLM and SGLang; llama.cpp).
IGNORE_EOS: dict[str, Any] = {"ignore_eos": True}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
RUNNING_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
RUNNING_TIMINGS: dict[str, Any] = {"timings_per_token": True}


@dataclass(frozen=True)
class Capabilities:
    """What a server takes and tells, found out by asking.

    Attributes
    ----------
    fields : dict
        Fields of a request that it takes beyond what every server does.
    counts_prompts : bool
        Whether it tells how many tokens a prompt has.
    other_models : list of str
        The models that it lists, where the one that it was asked for is not among them.
    """

    fields: dict[str, Any]
    counts_prompts: bool
    other_models: list[str]


def find_capabilities(endpoint: Endpoint, body: Mapping[str, Any], stops_at_eos: bool) -> Capabilities:
    """Ask a server for one token, and again with each field that it may not know.

    Parameters
    ----------
    endpoint : Endpoint
    body : mapping
        The JSON of a request for one token, as every server takes it.
    stops_at_eos : bool
        Whether requests may end before their length.

    Raises
    ------
    MeasurementError
        Where it does not answer the plain request with at least one token.
    """
    offered = [*([] if stops_at_eos else [IGNORE_EOS]), USAGE, RUNNING_USAGE, RUNNING_TIMINGS]
    with asking(endpoint) as client:
        answer = _ask(client, endpoint, body)
        others = _other_models(client, endpoint, str(body["model"]))
        if isinstance(answer, str):
            raise MeasurementError(
                f"engine.base_url={endpoint.base_url}: the server does not answer a request for one token "
                f"({answer}).{_names(str(body['model']), others)}"
            )
        taken: dict[str, Any] = {}
        for fields in offered:
            if any(name in endpoint.extra for name in fields):
                continue
            if fields is RUNNING_TIMINGS and answer.counted_by is Counted.running:
                continue
            tried = _ask(client, endpoint, {**body, **taken, **fields})
            if not isinstance(tried, str):
                taken, answer = {**taken, **fields}, tried
    return Capabilities(taken, answer.prompt_tokens is not None, others)


def _ask(client: httpx.Client, endpoint: Endpoint, body: Mapping[str, Any]) -> Answer | str:
    """Return the answer to a request, or why there is none: a server that is busy is asked again."""
    retrying = Retrying(**retries(endpoint, lambda exchange: exchange.status in RETRIED_STATUSES))
    exchange: Exchange = retrying(_post, client, endpoint, body)
    if exchange.outcome is not Outcome.ended:
        return refusal(exchange)
    answer = read_answer(exchange)
    return answer if answer.is_whole else answer.error


def _post(client: httpx.Client, endpoint: Endpoint, body: Mapping[str, Any]) -> Exchange:
    """Send a request and wait for the whole answer, as if it had come in one piece."""
    exchange = Exchange(0, 0)
    try:
        response = client.post(endpoint.url, json=body)
    except (httpx.HTTPError, OSError) as error:
        exchange.error = f"{type(error).__name__}: {one_line(error)}"
        return exchange
    exchange.status, exchange.body = response.status_code, response.content
    if response.status_code != 200:
        exchange.outcome, exchange.error = Outcome.refused, f"HTTP {response.status_code}"
        exchange.retry_after_s = retry_after_s(response.headers.get("retry-after", ""))
        return exchange
    exchange.outcome = Outcome.ended
    exchange.arrival_ns, exchange.arrival_end = array("q", [0]), array("q", [len(response.content)])
    return exchange


def _other_models(client: httpx.Client, endpoint: Endpoint, model: str) -> list[str]:
    """Return the models that the server lists, or none where the one that was asked for is among them."""
    try:
        entries = listed_models(client.get(f"{endpoint.base_url.rstrip('/')}/models"))
    except (httpx.HTTPError, OSError):
        return []
    known = {str(name) for entry in entries for name in (entry.get("id"), *(entry.get("aliases") or ()))}
    return [] if model in known else [str(entry.get("id")) for entry in entries]


def _names(model: str, others: list[str]) -> str:
    """Say which models there are, where the one that was asked for is none of them."""
    return f" It lists no model {model}; engine.model may be {', '.join(others[:10])}." if others else ""
