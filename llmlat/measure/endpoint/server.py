"""What a server tells of itself before anything is measured, and which fields of a request it takes.

Nothing of this is timed. Each question is a short one, and a server that does not know it is not at fault:
only where nothing answers at all, or the key is refused, is there nothing to go on with.
"""

import json
import logging
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import Retrying

from llmlat.errors import ConfigError, MeasurementError, one_line
from llmlat.measure.endpoint.answers import Answer, Counted, read_answer, refusal
from llmlat.measure.endpoint.client import (
    RETRIED_STATUSES,
    Exchange,
    Outcome,
    headers,
    retries,
    retry_after_s,
)
from llmlat.measure.endpoint.settings import Endpoint

# Where servers tell their version, and under which names: vLLM and SGLang, TGI, llama.cpp.
_VERSION_PAGES = {
    "/version": ("version",),
    "/info": ("version", "sha", "model_dtype"),
    "/props": ("build_info",),
}
# What an entry of /models says and does not change from one moment to the next.
# `meta` is llama.cpp's: size, parameters and storage type of the weights.
_MODEL_FIELDS = ("id", "root", "owned_by", "max_model_len", "meta")
# What only some servers take, offered to each: to go on to the wanted length, and to count as tokens come
# (vLLM and SGLang; llama.cpp).
IGNORE_EOS: dict[str, Any] = {"ignore_eos": True}
RUNNING_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
RUNNING_TIMINGS: dict[str, Any] = {"timings_per_token": True}


def describe_server(endpoint: Endpoint, model: str) -> dict[str, Any]:
    """Return what a server tells of itself and of a model: part of the dataset's key.

    Raises
    ------
    ConfigError
        Where nothing answers, or the key is refused.
    """
    with _client(endpoint) as client:
        try:
            listed = client.get(f"{endpoint.base_url.rstrip('/')}/models", timeout=endpoint.connect_timeout_s)
        except (httpx.HTTPError, OSError) as error:
            raise ConfigError(
                f"engine.base_url={endpoint.base_url}: nothing answers there ({one_line(error)}); start the "
                "server, mend the address, or raise engine.connect_timeout_s."
            ) from error
        _check_key(endpoint, listed.status_code)
        told = {"software": listed.headers.get("server"), **_version(client, endpoint)}
    entries = _models(listed)
    served = next((entry for entry in entries if entry.get("id") == model), {})
    return {
        **{name: value for name, value in told.items() if value},
        "model": {name: served[name] for name in _MODEL_FIELDS if served.get(name) is not None},
    }


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
    offered = [RUNNING_USAGE, RUNNING_TIMINGS] if stops_at_eos else [IGNORE_EOS, RUNNING_USAGE, RUNNING_TIMINGS]
    with _client(endpoint) as client:
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


def _client(endpoint: Endpoint) -> httpx.Client:
    timeout = httpx.Timeout(endpoint.read_timeout_s, connect=endpoint.connect_timeout_s)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for every question
    # Measuring goes straight to the server, so this does too, whatever proxies the environment names.
    # A connection that the server has closed since the last question would look like a refusal of this one.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(timeout=timeout, headers=headers(endpoint), trust_env=False, limits=limits)


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


def _check_key(endpoint: Endpoint, status: int) -> None:
    if status not in {401, 403}:
        return
    if endpoint.api_key_env is None:
        raise ConfigError("engine.api_key_env: the server asks for a key; name the variable that holds it.")
    state = "the server refuses the key in it" if endpoint.api_key() else "the server asks for a key"
    raise ConfigError(
        f"engine.api_key_env={endpoint.api_key_env}: {state} (HTTP {status}); set the environment variable."
    )


def _version(client: httpx.Client, endpoint: Endpoint) -> dict[str, Any]:
    """Return what the server's own pages say of its version; those of other servers are not there."""
    root = httpx.URL(endpoint.base_url).copy_with(path="/")
    for page, names in _VERSION_PAGES.items():
        try:
            told = client.get(root.join(page), timeout=endpoint.connect_timeout_s).raise_for_status().json()
        except (httpx.HTTPError, OSError, ValueError):
            continue
        found = {name: told[name] for name in names if isinstance(told, dict) and told.get(name)}
        if found:
            return found
    return {}


def _models(response: httpx.Response) -> list[Mapping[str, Any]]:
    try:
        listed = response.raise_for_status().json()["data"]
    except (httpx.HTTPError, json.JSONDecodeError, KeyError, TypeError):
        return []
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _other_models(client: httpx.Client, endpoint: Endpoint, model: str) -> list[str]:
    """Return the models that the server lists, or none where the one that was asked for is among them."""
    try:
        entries = _models(client.get(f"{endpoint.base_url.rstrip('/')}/models"))
    except (httpx.HTTPError, OSError):
        return []
    known = {str(name) for entry in entries for name in (entry.get("id"), *(entry.get("aliases") or ()))}
    return [] if model in known else [str(entry.get("id")) for entry in entries]


def _names(model: str, others: list[str]) -> str:
    """Say which models there are, where the one that was asked for is none of them."""
    return f" It lists no model {model}; engine.model may be {', '.join(others[:10])}." if others else ""
