"""The plan of a measurement: which requests, of which model, on which device, and the identity of it all.

Everything that can be wrong with a config is found out here, before anything is loaded.
"""

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from hydra.utils import get_object

from llmlat.config import Config, QuantizationName
from llmlat.errors import ConfigError, one_line
from llmlat.files import plain
from llmlat.measure.cells import engine_settings, plan_cells
from llmlat.measure.decoding import check_cell
from llmlat.measure.endpoint.settings import is_endpoint
from llmlat.measure.engines.plugged import check_settings, sources_sha256
from llmlat.measure.identity import identify_settings
from llmlat.measure.machine.device import pick_device
from llmlat.measure.machine.environment import DECIDING_PACKAGES, hardware, speed_variables
from llmlat.measure.machine.host import versions
from llmlat.measure.models.load import quiet_libraries
from llmlat.measure.models.sources import ModelSource, find_model
from llmlat.measure.models.tokenizers import make_tokenizer
from llmlat.measure.prompts import Request, plan_requests
from llmlat.measure.protocol.schedule import check_collect, planned
from llmlat.measure.telemetry import check_telemetry


@dataclass(frozen=True)
class Plan:
    """What a config comes to on this machine, before anything is loaded.

    Attributes
    ----------
    device : torch.device
    source : ModelSource
    single_pass : list of Request
        Every batch of prompts in every cell, once.
    requests : list of Request
        What is measured in any case, in order.
    engines : dict
        The settings of each engine, by its name.
    identity : dict
        Everything that decides the measurement; its hash is the dataset's key.
    """

    device: torch.device
    source: ModelSource
    single_pass: list[Request]
    requests: list[Request]
    engines: dict[str, dict[str, Any]]
    identity: dict[str, Any]

    @property
    def n_steps(self) -> int:
        """Steps that the requests take."""
        return sum(request.max_new_tokens for request in self.requests)

    @property
    def n_tokens(self) -> int:
        """Tokens that the requests generate: every sequence of a batch has its own."""
        return sum(request.max_new_tokens * len(request.prompts) for request in self.requests)


def make_plan(config: Config) -> Plan:
    """Work out what will be measured.

    Raises
    ------
    LlmlatError
        Where the device, the model or the prompts cannot be had.
    """
    quiet_libraries()
    cells = plan_cells(config)
    for cell in cells:
        check_cell(cell)
    check_collect(config.collect)
    check_telemetry(config.collect)
    engines = engine_settings(config, cells)
    device = pick_device(config.device)
    for engine in engines.values():
        _check_engine(engine, device, config.quantization.name)
    source = find_model(config.model, device)
    model = config.model.stand_in if source.stand_in_for and config.model.stand_in else config.model
    tokenizer = make_tokenizer(
        model.tokenizer, model.name, model.revision, source.local_files_only, model.trust_remote_code
    )
    text_config = source.hf_config.get_text_config()
    max_context = int(getattr(text_config, "max_position_embeddings", None) or sys.maxsize)
    vocabulary = getattr(text_config, "vocab_size", None)
    single_pass = plan_requests(config.prompt_set, cells, tokenizer, max_context, vocabulary)
    requests = planned(single_pass, config.collect, config.seed)
    identity = _identify(config, source, single_pass, engines, device)
    if tokenizer.written_date is not None:
        identity["template_date"] = tokenizer.written_date
        notice = (
            "PINNED DATE: the chat template writes today's date into prompts; it is told "
            f"{tokenizer.written_date}, so that the same prompts are measured on any day."
        )
        source = replace(source, notices=(*source.notices, notice))
    return Plan(device, source, single_pass, requests, engines, identity)


def _check_engine(engine: dict[str, Any], device: torch.device, quantization: QuantizationName) -> None:
    """Find an engine's class, see that its settings fit, and ask it whether it runs here, if it may not."""
    target = engine.get("_target_")
    if is_endpoint(engine):
        raise ConfigError(
            f"collect.interleave.engine={engine['name']}: a server cannot take turns with engines of this "
            f"process; measure it by itself, engine={engine['name']}."
        )
    try:
        found = get_object(str(target))
    except Exception as error:
        raise ConfigError(f"engine._target_={target}: cannot be found ({one_line(error)}).") from error
    check_settings(found, engine)
    if hasattr(found, "check"):
        found.check(device, quantization)


def _identify(
    config: Config,
    source: ModelSource,
    single_pass: list[Request],
    engines: dict[str, dict[str, Any]],
    device: torch.device,
) -> dict[str, Any]:
    """Return everything that decides the measurement, JSON-serialisable."""
    architecture = plain(source.hf_config.to_dict(), default=str)
    for volatile in ("_name_or_path", "transformers_version", "dtype"):
        architecture.pop(volatile, None)
    return {
        **identify_settings(config, [asdict(request) for request in single_pass]),
        "model": source.name,
        "stand_in_for": source.stand_in_for,
        "weights": source.weights,
        "fingerprint": source.fingerprint,
        "architecture": architecture,
        "quantization": str(config.quantization.name),
        "engine": config.engine,
        "interleaved_engines": {name: engines[name] for name in engines if name != config.engine["name"]},
        # Only where there are any: the keys of llmlat's own engines do not change with it.
        **({"engine_sources_sha256": sources} if (sources := sources_sha256(engines)) else {}),
        "hardware": hardware(device),
        "versions": versions(DECIDING_PACKAGES),
        "environment": speed_variables(),
    }
