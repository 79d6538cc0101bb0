"""What a server tells of itself before anything is measured.

Nothing of this is timed. Each question is a short one, and a server that does not know it is not at fault:
only where nothing answers at all, or the key is refused, is there nothing to go on with.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

import httpx

from llmlat.errors import ConfigError, one_line
from llmlat.measure.endpoint.client import headers
from llmlat.measure.endpoint.settings import Endpoint

# Where servers tell their version, and under which names: vLLM, SGLang (now and before), TGI, llama.cpp.
_VERSION_PAGES = {
    "/version": ("version",),
    "/server_info": ("version",),
    "/get_server_info": ("version",),
    "/info": ("version", "sha", "model_dtype"),
    "/props": ("build_info",),
}
# What an entry of /models says and does not change from one moment to the next.
# `meta` is llama.cpp's: size, parameters and storage type of the weights.
_MODEL_FIELDS = ("id", "root", "owned_by", "max_model_len", "meta")


def describe_server(endpoint: Endpoint, model: str) -> dict[str, Any]:
    """Return what a server tells of itself and of a model: part of the dataset's key.

    Raises
    ------
    ConfigError
        Where nothing answers, or the key is refused.
    """
    with asking(endpoint) as client:
        try:
            listed = client.get(f"{endpoint.base_url.rstrip('/')}/models", timeout=endpoint.connect_timeout_s)
        except (httpx.HTTPError, OSError) as error:
            raise ConfigError(
                f"engine.base_url={endpoint.base_url}: nothing answers there ({one_line(error)}); start the "
                "server, mend the address, or raise engine.connect_timeout_s."
            ) from error
        _check_key(endpoint, listed.status_code)
        told = {"software": listed.headers.get("server"), **_version(client, endpoint)}
    entries = listed_models(listed)
    served = next((entry for entry in entries if entry.get("id") == model), {})
    return {
        **{name: value for name, value in told.items() if value},
        "model": {name: served[name] for name in _MODEL_FIELDS if served.get(name) is not None},
    }


def software_words(server: Mapping[str, Any]) -> str:
    """Return a server's name and version as `describe_server` found them: `vllm 0.32.0 (uvicorn)`.

    The header names what speaks HTTP, which may be a library; who owns the model is who serves it.
    """
    software, owner = server.get("software"), server["model"].get("owned_by")
    version = " ".join(str(value) for name, value in server.items() if name not in {"software", "model"})
    if not version or not owner:
        return ", ".join(filter(None, [software, version]))
    return f"{owner} {version} ({software})" if software else f"{owner} {version}"


def asking(endpoint: Endpoint) -> httpx.Client:
    """Return what asks a server, for a `with` block."""
    timeout = httpx.Timeout(endpoint.read_timeout_s, connect=endpoint.connect_timeout_s)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for every question
    # Measuring goes straight to the server, so this does too, whatever proxies the environment names.
    # A connection that the server has closed since the last question would look like a refusal of this one.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(timeout=timeout, headers=headers(endpoint), trust_env=False, limits=limits)


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


def listed_models(response: httpx.Response) -> list[Mapping[str, Any]]:
    """Return the entries of a server's list of models, none where that is no such list."""
    try:
        listed = response.raise_for_status().json()["data"]
    except (httpx.HTTPError, json.JSONDecodeError, KeyError, TypeError):
        return []
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
