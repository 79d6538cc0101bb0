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

from llmlat.errors import ConfigError, MeasurementError, one_line
from llmlat.measure.endpoint.answers import Answer, read_answer, refusal
from llmlat.measure.endpoint.client import Exchange, Outcome, headers
from llmlat.measure.endpoint.settings import Endpoint

# Where servers tell their version, and under which names: vLLM and SGLang, TGI, llama.cpp.
_VERSION_PAGES = {
    "/version": ("version",),
    "/info": ("version", "sha", "model_dtype"),
    "/props": ("build_info",),
}
# What an entry of /models says and does not change from one moment to the next.
_MODEL_FIELDS = ("id", "root", "owned_by", "max_model_len")
# What only some servers take, offered to each: to go on to the wanted length, and to count as tokens come.
IGNORE_EOS: dict[str, Any] = {"ignore_eos": True}
RUNNING_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


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
    """

    fields: dict[str, Any]
    counts_prompts: bool


def find_capabilities(endpoint: Endpoint, body: Mapping[str, Any], stops_at_eos: bool) -> Capabilities:
    """Ask a server for one token, and again with each field that it may not know.

    Parameters
    ----------
    endpoint : Endpoint
    body : mapping
        A request's JSON, as every server takes it.
    stops_at_eos : bool
        Whether requests may end before their length.

    Raises
    ------
    MeasurementError
        Where it does not answer the plain request with at least one token.
    """
    short = {**body, "max_tokens": 1}
    offered = [RUNNING_USAGE] if stops_at_eos else [IGNORE_EOS, RUNNING_USAGE]
    with _client(endpoint) as client:
        answer = _ask(client, endpoint, short)
        if isinstance(answer, str):
            raise MeasurementError(
                f"engine.base_url={endpoint.base_url}: the server does not answer a request for one token "
                f"({answer}).{_names(client, endpoint, str(body['model']))}"
            )
        taken: dict[str, Any] = {}
        for fields in offered:
            if any(name in endpoint.extra for name in fields):
                continue
            tried = _ask(client, endpoint, {**short, **taken, **fields})
            if not isinstance(tried, str):
                taken, answer = {**taken, **fields}, tried
    return Capabilities(taken, answer.prompt_tokens is not None)


def _client(endpoint: Endpoint) -> httpx.Client:
    timeout = httpx.Timeout(endpoint.read_timeout_s, connect=endpoint.connect_timeout_s)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for every question
    # Measuring goes straight to the server, so this does too, whatever proxies the environment names.
    return httpx.Client(timeout=timeout, headers=headers(endpoint), trust_env=False)


def _ask(client: httpx.Client, endpoint: Endpoint, body: Mapping[str, Any]) -> Answer | str:
    """Return the answer to a request, or why there is none."""
    try:
        response = client.post(endpoint.url, json=body)
    except (httpx.HTTPError, OSError) as error:
        return f"{type(error).__name__}: {one_line(error)}"
    exchange = Exchange(0, 0, body=response.content, status=response.status_code)
    if response.status_code != 200:
        exchange.error = f"HTTP {response.status_code}"
        return refusal(exchange)
    exchange.outcome = Outcome.ended
    exchange.arrival_ns, exchange.arrival_end = array("q", [0]), array("q", [len(response.content)])
    answer = read_answer(exchange)
    return answer if answer.is_whole else answer.error


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


def _names(client: httpx.Client, endpoint: Endpoint, model: str) -> str:
    """Say which models there are, where the one that was asked for is none of them."""
    try:
        entries = _models(client.get(f"{endpoint.base_url.rstrip('/')}/models"))
    except (httpx.HTTPError, OSError):
        return ""
    names = [str(entry.get("id")) for entry in entries]
    if not names or model in names:
        return ""
    return f" It lists no model {model}; engine.model may be {', '.join(names[:10])}."
