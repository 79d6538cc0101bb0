"""What the config says of a server: where it is, and how requests arrive there."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from llmlat.errors import ConfigError

Choice = TypeVar("Choice", bound=StrEnum)


class Api(StrEnum):
    """Which of OpenAI's two APIs the server is asked through."""

    chat = "chat"
    completions = "completions"


class Arrival(StrEnum):
    """When requests are sent."""

    one_at_a_time = "one_at_a_time"
    closed_loop = "closed_loop"
    poisson = "poisson"


PATHS = {Api.chat: "/chat/completions", Api.completions: "/completions"}
# They decide whether there is an answer, and not how long it takes.
_NOT_MEASURED = ("api_key_env", "connect_timeout_s", "read_timeout_s", "retries")


@dataclass(frozen=True)
class Endpoint:
    """A server, and how it is asked; the keys of `conf/engine/endpoint.yaml`.

    Attributes
    ----------
    base_url : str
        Up to the version: `http://localhost:8000/v1`.
    name : str
        The engine's name in the rows.
    model : str or None
        The name that the server knows the model by.
    api_key_env : str or None
        The environment variable that holds the key. The key itself is kept nowhere.
    api : Api
    arrival : Arrival
    concurrency : int or None
        Requests in flight: exactly so many in a closed loop, at most so many under Poisson arrival.
    rate_per_s : float or None
        Requests a second under Poisson arrival, on average.
    connect_timeout_s, read_timeout_s : float
        The longest wait for a connection, and for anything more to read.
    retries : int
        Further attempts of a request that was refused.
    extra : dict
        Further fields of the request's JSON.
    """

    base_url: str
    name: str = "endpoint"
    model: str | None = None
    api_key_env: str | None = "OPENAI_API_KEY"
    api: Api = Api.chat
    arrival: Arrival = Arrival.one_at_a_time
    concurrency: int | None = None
    rate_per_s: float | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 120.0
    retries: int = 2
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where requests are sent."""
        return self.base_url.rstrip("/") + PATHS[self.api]

    @property
    def host(self) -> str:
        """The server's host, with its port where the address names one."""
        return urlsplit(self.base_url).netloc

    @property
    def most_in_flight(self) -> int | None:
        """How many requests may be in flight at once; None for no limit."""
        return 1 if self.arrival is Arrival.one_at_a_time else self.concurrency

    def api_key(self) -> str | None:
        """Return the key, from the environment."""
        return os.environ.get(self.api_key_env) or None if self.api_key_env else None

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide the measurement, for the dataset's key."""
        settings = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in settings.items() if name not in _NOT_MEASURED}


def is_endpoint(engine: Mapping[str, Any]) -> bool:
    """Whether an engine's settings are those of a server."""
    return engine.get("_target_") == f"{Endpoint.__module__}.{Endpoint.__qualname__}"


def read_endpoint(engine: Mapping[str, Any]) -> Endpoint:
    """Return a server's settings from the config, checked.

    Raises
    ------
    ConfigError
        Where one cannot be, or is none; the line names its key.
    """
    given = {name: value for name, value in engine.items() if name != "_target_"}
    known = [entry.name for entry in fields(Endpoint)]
    for name in given:
        if name not in known:
            raise ConfigError(f"engine.{name}: no such key. Keys of engine: {', '.join(known)}.")
    given["api"] = _one_of(Api, "api", given.get("api", Api.chat))
    given["arrival"] = _one_of(Arrival, "arrival", given.get("arrival", Arrival.one_at_a_time))
    given["base_url"] = str(given.get("base_url"))
    endpoint = Endpoint(**given)
    _check_address(endpoint)
    _check_numbers(endpoint)
    _check_arrival(endpoint)
    return endpoint


def _one_of(choices: type[Choice], name: str, value: Any) -> Choice:
    if value in list(choices):
        return choices(value)
    raise ConfigError(f"engine.{name}={value}: use {', '.join(choices)}.")


def _check_address(endpoint: Endpoint) -> None:
    try:
        parts = urlsplit(endpoint.base_url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"engine.base_url={endpoint.base_url}: no address ({error}).") from error
    if parts.username or parts.password:
        raise ConfigError(
            "engine.base_url: it holds credentials, which would be kept with the results; put the key into "
            "an environment variable and name that, engine.api_key_env=MY_KEY."
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"engine.base_url={endpoint.base_url}: use an address up to the version, "
            "such as http://localhost:8000/v1."
        )
    for api, path in PATHS.items():
        if endpoint.base_url.rstrip("/").endswith(path):
            raise ConfigError(
                f"engine.base_url={endpoint.base_url}: leave {path} out; engine.api={api} adds it."
            )


def _check_numbers(endpoint: Endpoint) -> None:
    for name in ("connect_timeout_s", "read_timeout_s", "rate_per_s"):
        value = getattr(endpoint, name)
        may_be_null = name == "rate_per_s"
        if not (value is None and may_be_null) and not (_is_number(value) and 0 < value < math.inf):
            raise ConfigError(f"engine.{name}={value}: use a number above 0.")
    for name, least in (("retries", 0), ("concurrency", 1)):
        value = getattr(endpoint, name)
        may_be_null = name == "concurrency"
        if not (value is None and may_be_null) and not (type(value) is int and value >= least):
            raise ConfigError(f"engine.{name}={value}: use a whole number of at least {least}.")
    if not isinstance(endpoint.extra, dict):
        raise ConfigError(f"engine.extra={endpoint.extra}: use fields and values, {{min_tokens: 8}}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_arrival(endpoint: Endpoint) -> None:
    arrival, concurrency = endpoint.arrival, endpoint.concurrency
    if arrival is Arrival.closed_loop and concurrency is None:
        raise ConfigError(
            "engine.arrival=closed_loop: say how many requests are in flight, engine.concurrency=4."
        )
    if arrival is Arrival.one_at_a_time and concurrency not in (None, 1):
        raise ConfigError(
            f"engine.concurrency={concurrency}: with engine.arrival=one_at_a_time there is one request in "
            "flight; use engine.arrival=closed_loop or poisson."
        )
    if arrival is Arrival.poisson and endpoint.rate_per_s is None:
        raise ConfigError(
            "engine.arrival=poisson: say how many requests arrive a second, engine.rate_per_s=2."
        )
    if arrival is not Arrival.poisson and endpoint.rate_per_s is not None:
        raise ConfigError(
            f"engine.rate_per_s={endpoint.rate_per_s:g}: only engine.arrival=poisson has a rate; "
            "leave it out, or use that."
        )
