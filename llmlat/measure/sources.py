"""Where a model can be had: its architecture, its weights, and whatever takes their place.

Nothing is loaded here. The answer is needed first: it decides the dataset's key, and every substitution is
announced before anything is measured.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoConfig, PretrainedConfig

from llmlat.config import LanguageModelConfig, ModelConfig, Weights
from llmlat.errors import ConfigError, ModelError

HUB_DEADLINE_S = 4.0
_INDEX = "model.safetensors.index.json"
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class ModelSource:
    """What will be loaded, and from where.

    Attributes
    ----------
    name : str
        The model's name.
    hf_config : PretrainedConfig
        Its architecture.
    weights : {'pretrained', 'random'}
        Where its weights come from.
    location : str or None
        The folder or Hub id of pretrained weights.
    revision : str or None
        The Hub revision asked for.
    local_files_only : bool
        Whether the Hub is left alone while loading.
    stand_in_for : str or None
        The model that this one stands in for.
    notices : tuple of str
        A line for every substitution.
    fingerprint : dict
        What identifies the weights, for the dataset's key.
    """

    name: str
    hf_config: PretrainedConfig
    weights: str
    location: str | None = None
    revision: str | None = None
    local_files_only: bool = True
    stand_in_for: str | None = None
    notices: tuple[str, ...] = ()
    fingerprint: dict[str, Any] = field(default_factory=dict)


def find_model(config: ModelConfig, device: torch.device) -> ModelSource:
    """Decide which model is loaded, and from where.

    Raises
    ------
    ConfigError, ModelError
        Where what was asked for cannot be had.
    """
    if config.stand_in is not None and device.type != "cuda":
        notice = (
            f"STAND-IN: no CUDA device here, so the embedded {config.stand_in.name} takes the place of {config.name}; "
            f"these are not {config.name}'s latencies."
        )
        source = _find(config.stand_in)
        return _with(source, stand_in_for=config.name, notices=(notice, *source.notices))
    return _find(config)


def _with(source: ModelSource, **changes: Any) -> ModelSource:
    return ModelSource(**{**source.__dict__, **changes})


def _find(config: LanguageModelConfig) -> ModelSource:
    if Path(config.name).is_dir():
        return _find_in_folder(config, Path(config.name))
    architecture = _written_architecture(config)
    if config.weights is Weights.random and architecture is not None:
        return _random(config, architecture)
    if architecture is not None and "/" not in config.name:
        if config.weights is Weights.pretrained:
            raise ConfigError(
                f"model.weights=pretrained: {config.name} is embedded and has no pretrained weights; "
                "use model.weights=random, or model=hub model.name=ORGANISATION/MODEL."
            )
        return _random(config, architecture)
    return _find_on_hub(config, architecture)


def _written_architecture(config: LanguageModelConfig) -> PretrainedConfig | None:
    """Build the architecture that the config file writes down, if it is this model's."""
    if not config.architecture:
        return None
    fields = dict(config.architecture)
    # An architecture belongs to the model it was written for: a renamed model must not inherit it.
    if fields.pop("of", config.name) != config.name:
        return None
    model_type = fields.pop("model_type", None)
    try:
        return AutoConfig.for_model(model_type, **fields)
    except ValueError as error:
        raise ConfigError(
            f"model.architecture.model_type={model_type}: transformers knows no such architecture; "
            "use a model_type such as mistral, llama or qwen3."
        ) from error


def _random(config: LanguageModelConfig, architecture: PretrainedConfig, reason: str = "") -> ModelSource:
    notices: tuple[str, ...] = ()
    if reason:
        notices = (
            f"RANDOM WEIGHTS: {config.name} {reason}, so its exact architecture is initialised at random; "
            "dense decoding takes the same time, the text is noise.",
        )
    return ModelSource(config.name, architecture, "random", notices=notices)


def _find_in_folder(config: LanguageModelConfig, folder: Path) -> ModelSource:
    try:
        architecture = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name={folder}: the folder has no readable config.json; name a folder that "
            "save_pretrained() or a download has made."
        ) from error
    files = sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".bin"})
    if config.weights is Weights.random:
        return _random(config, architecture)
    if not files:
        if config.weights is Weights.pretrained:
            raise ModelError(f"model.weights=pretrained: {folder} holds no weights; use auto or random.")
        return _random(config, architecture, "comes without weights in its folder")
    sizes = {p.name: p.stat().st_size for p in files}
    return ModelSource(
        config.name, architecture, "pretrained", str(folder), fingerprint={"files_bytes": sizes}
    )


def _find_on_hub(config: LanguageModelConfig, architecture: PretrainedConfig | None) -> ModelSource:
    """Take the Hub's cache, then the Hub, then the written architecture with random weights."""
    cached = _cached_architecture(config)
    if cached is not None and config.weights is not Weights.random and _weights_are_cached(config):
        return _pretrained(config, cached, local_files_only=True)
    obstacle = _hub_obstacle(config)
    if obstacle is None:
        remote = AutoConfig.from_pretrained(config.name, revision=config.revision)
        if config.weights is Weights.random:
            return _random(config, remote)
        return _pretrained(config, remote, local_files_only=False)
    known = architecture or cached
    if config.weights is Weights.pretrained or known is None:
        raise ModelError(
            f"model.name={config.name}: it is no local folder, not complete in the Hub's cache, and {obstacle}. "
            "Name a local folder, go online, or use a model whose architecture is written down "
            "(model=mistral-7b-instruct-v0.3, model=mistral-mini)."
        )
    return _random(config, known, "" if config.weights is Weights.random else f"cannot be had ({obstacle})")


def _pretrained(
    config: LanguageModelConfig, hf_config: PretrainedConfig, local_files_only: bool
) -> ModelSource:
    commit = getattr(hf_config, "_commit_hash", None)
    return ModelSource(
        config.name,
        hf_config,
        "pretrained",
        location=config.name,
        revision=config.revision,
        local_files_only=local_files_only,
        fingerprint={"commit": commit},
    )


def _cached_architecture(config: LanguageModelConfig) -> PretrainedConfig | None:
    try:
        return AutoConfig.from_pretrained(config.name, revision=config.revision, local_files_only=True)
    except (OSError, ValueError):
        return None


def _weights_are_cached(config: LanguageModelConfig) -> bool:
    """Tell whether every file of the weights is in the Hub's cache."""

    def cached(filename: str) -> str | None:
        path = try_to_load_from_cache(config.name, filename, revision=config.revision)
        return path if isinstance(path, str) else None

    index = cached(_INDEX)
    if index is None:
        return any(cached(name) for name in _SINGLE_FILES)
    shards = set(json.loads(Path(index).read_text())["weight_map"].values())
    return all(cached(shard) for shard in shards)


def _hub_obstacle(config: LanguageModelConfig) -> str | None:
    """Ask the Hub, within a few seconds, whether the model can be downloaded.

    Returns
    -------
    str or None
        Why not; or None where it can.

    Raises
    ------
    ModelError
        Where the Hub answers that there is no such model or revision.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids asking the Hub"
    answer = _within(HUB_DEADLINE_S, lambda: HfApi().auth_check(config.name))
    if answer is None:
        return f"the Hub did not answer within {HUB_DEADLINE_S:.0f} s"
    if isinstance(answer, GatedRepoError):
        return (
            "the Hub gives it only to those who accepted its terms: do so on its page, then `hf auth login`"
        )
    if isinstance(answer, RepositoryNotFoundError | RevisionNotFoundError):
        raise ModelError(
            f"model.name={config.name}: the Hub has no such model (or it is private: `hf auth login`); "
            "check the name, or name a local folder."
        ) from answer
    if isinstance(answer, BaseException):
        return f"the Hub cannot be reached ({type(answer).__name__})"
    return None


def _within(seconds: float, ask: Callable[[], Any]) -> BaseException | bool | None:
    """Run a call on a thread for at most so long; return True, its exception, or None where it is late.

    A thread, because no timeout of an HTTP client bounds the name look-up before it.
    """
    answers: list[BaseException | bool] = []

    def run() -> None:
        try:
            ask()
            answers.append(True)
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None
