"""The plan of a measurement through a server: which requests, and the identity of it all."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from llmlat.config import Config, QuantizationName
from llmlat.errors import ConfigError
from llmlat.measure.cells import Cell, plan_cells
from llmlat.measure.endpoint.server import describe_server, software_words
from llmlat.measure.endpoint.settings import Api, Endpoint, read_endpoint
from llmlat.measure.endpoint.tokenizing import find_tokenizer
from llmlat.measure.identity import identify_settings
from llmlat.measure.machine.host import cpu_model, versions
from llmlat.measure.models.tokenizers import Message
from llmlat.measure.prompt_files import Prompt, load_prompts
from llmlat.measure.prompts import (
    Request,
    check_counts,
    cut_to_lengths,
    tokens_to_generate,
)
from llmlat.measure.protocol.schedule import check_collect, planned

PACKAGES = ("httpcore",)

Messages = tuple[Message, ...]
# In place of a prompt's beginning where it warms up: a server that remembers how prompts begin must not know
# it afterwards. It gets no longer by that, or it might not fit the model.
WARM_UP_LEAD = "This is to warm up. "


@dataclass(frozen=True)
class EndpointPlan:
    """What a config comes to with a server, before anything is sent.

    Attributes
    ----------
    endpoint : Endpoint
    model : str
        The name that the server knows the model by.
    messages : dict
        What each prompt says, by its name.
    single_pass : list of Request
        Every prompt in every cell, once. Their prompts are empty: the server turns them into tokens.
    requests : list of Request
        What is measured in any case, in order.
    identity : dict
        Everything that decides the measurement, as far as a client knows; its hash is the dataset's key.
    """

    endpoint: Endpoint
    model: str
    messages: dict[str, Messages]
    single_pass: list[Request]
    requests: list[Request]
    identity: dict[str, Any]

    @property
    def n_steps(self) -> int:
        """Tokens that the requests generate."""
        return sum(request.max_new_tokens for request in self.requests)

    def body(self, request: Request, seed: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's JSON. One that warms up begins with other words than the prompt.

        Parameters
        ----------
        request : Request
        seed : int
        fields : mapping
            What this server takes beyond what every one does.
        """
        cell, messages = request.cell, self.messages[request.prompt_ids[0]]
        if request.is_warm_up:
            first, *others = messages
            messages = ({**first, "content": WARM_UP_LEAD + first["content"][len(WARM_UP_LEAD) :]}, *others)
        text: dict[str, Any] = {"messages": [dict(message) for message in messages]}
        if self.endpoint.api is Api.completions:
            text = {"prompt": "\n\n".join(message["content"] for message in messages)}
        drawn = {"top_k": cell.top_k, "top_p": cell.top_p, "seed": seed if cell.temperature else None}
        return {
            "model": self.model,
            **text,
            "max_tokens": request.max_new_tokens,
            "temperature": cell.temperature,
            **{name: value for name, value in drawn.items() if value is not None},
            "stream": True,
            **fields,
            **self.endpoint.extra,
        }


def make_plan(config: Config) -> EndpointPlan:
    """Work out what will be measured, and whether there is a server.

    Raises
    ------
    ConfigError
        Where a setting cannot be, nothing answers, or the prompts cannot be had.
    """
    endpoint = read_endpoint(config.engine)
    cells = plan_cells(config)
    _check(config, cells)
    check_collect(config.collect)
    model = endpoint.model or config.model.name
    server = describe_server(endpoint, model)
    prompts = _prompts(config)
    single_pass = [
        Request(index, (prompt.prompt_id,), 0, ((),), tokens_to_generate(prompt, config.prompt_set), cell)
        for index, (cell, prompt) in enumerate((cell, prompt) for cell in cells for prompt in prompts)
    ]
    messages = {prompt.prompt_id: prompt.messages for prompt in prompts}
    return EndpointPlan(
        endpoint,
        model,
        messages,
        single_pass,
        planned(single_pass, config.collect, config.seed),
        _identify(config, endpoint, model, server, messages, single_pass),
    )


def _prompts(config: Config) -> list[Prompt]:
    """Return the prompts, as text: where they are cut to lengths, by the tokenizer of `model`."""
    prompt_set = config.prompt_set
    check_counts(prompt_set)
    if not prompt_set.prompt_tokens:
        return load_prompts(prompt_set)
    tokenizer = find_tokenizer(config.model)
    return [
        replace(prompt, messages=({"role": "user", "content": tokenizer.decode(ids)},))
        for prompt, ids in cut_to_lengths(prompt_set, tokenizer)[: prompt_set.limit]
    ]


def _check(config: Config, cells: list[Cell]) -> None:
    """Refuse what a request to a server cannot ask for."""
    if config.collect.interleave.engine:
        raise ConfigError(
            f"collect.interleave.engine={config.collect.interleave.engine}: a server cannot take turns with "
            "other engines in one measurement; leave it empty."
        )
    if config.quantization.name is not QuantizationName.none:
        raise ConfigError(
            f"quantization={config.quantization.name}: a server stores its weights as it was told to; start "
            "it so, and use quantization=none here."
        )
    if config.device != "auto":
        raise ConfigError(f"device={config.device}: the server's device is its own; leave it out.")
    for cell in cells:
        if cell.batch_size != 1:
            raise ConfigError(
                f"decoding.batch_size={cell.batch_size}: a server batches by itself what is in flight; use "
                "engine.arrival=closed_loop engine.concurrency=4."
            )
        if cell.num_beams != 1:
            raise ConfigError(f"decoding.num_beams={cell.num_beams}: a stream has no beams; use 1.")
        if not 0 <= cell.temperature < math.inf:
            raise ConfigError(f"decoding.temperature={cell.temperature:g}: use 0 or more.")


def _identify(
    config: Config,
    endpoint: Endpoint,
    model: str,
    server: dict[str, Any],
    messages: dict[str, Messages],
    single_pass: list[Request],
) -> dict[str, Any]:
    """Return everything that decides the measurement, JSON-serialisable, and no key."""
    asked = [
        {**asdict(request), "messages": [dict(m) for m in messages[request.prompt_ids[0]]]}
        for request in single_pass
    ]
    told = software_words(server)
    return {
        **identify_settings(config, asked),
        "model": model,
        "stand_in_for": None,
        "weights": "served",
        "fingerprint": None,
        "architecture": {},
        "quantization": "unknown",
        "engine": endpoint.deciding(),
        "server": server,
        "hardware": {
            "device": "endpoint",
            "name": f"endpoint {endpoint.host}",
            "client_cpu": cpu_model(),
            "client_cores": os.cpu_count(),
        },
        "versions": {**versions(PACKAGES), **({"server": told} if told else {})},
    }
