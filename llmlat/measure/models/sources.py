"""Where a model can be had: its architecture, its weights, and whatever takes their place.

Nothing is loaded here. The answer is needed first: it decides the dataset's key, and every substitution is
announced before anything is measured.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig

from llmlat.config import LanguageModelConfig, ModelConfig, Weights
from llmlat.errors import ConfigError, ModelError, one_line
from llmlat.measure.models import hub
from llmlat.measure.models.own_code import first_sentence, is_own_code, own_code_error

FINGERPRINT_BYTES = 2**20


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
    trust_remote_code : bool
        Whether code that comes with the model is run.
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
    trust_remote_code: bool = False
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
    # An option names what may be stood in for; a model that somebody asks for may not.
    is_asked_for = (config.architecture or {}).get("of") != config.name
    if config.stand_in is not None and device.type != "cuda" and not is_asked_for:
        notice = (
            f"STAND-IN: no CUDA device here, so the embedded {config.stand_in.name} takes the place of "
            f"{config.name}; these are not {config.name}'s latencies."
        )
        source = _checked(_find(config.stand_in))
        return _with(source, stand_in_for=config.name, notices=(notice, *source.notices))
    return _checked(_find(config))


def _with(source: ModelSource, **changes: Any) -> ModelSource:
    return ModelSource(**{**source.__dict__, **changes})


def _checked(source: ModelSource) -> ModelSource:
    """Refuse what does not go on with a text token by token."""
    hf_config = source.hf_config
    is_causal = any(
        type(part) in MODEL_FOR_CAUSAL_LM_MAPPING for part in (hf_config, hf_config.get_text_config())
    )
    has_own_code = "AutoModelForCausalLM" in (getattr(hf_config, "auto_map", None) or {})
    if not is_causal and not (has_own_code and source.trust_remote_code):
        if has_own_code:
            raise own_code_error(source.name)
        raise ModelError(
            f"model.name={source.name}: {hf_config.model_type} is no causal language model, which goes on "
            "with a text token by token; name one that is, such as a mistral, llama or qwen3."
        )
    return source


def _find(config: LanguageModelConfig) -> ModelSource:
    # Unlike `Path.is_dir`, this takes names that no folder can have, such as of 300 letters.
    if os.path.isdir(config.name):
        return _find_in_folder(config, Path(config.name))
    _refuse_paths(config.name)
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


def _refuse_paths(name: str) -> None:
    """Refuse what is meant for a folder and is none: the Hub knows nothing of it."""
    if os.path.isfile(name):
        what = "a GGUF file" if name.lower().endswith(".gguf") else "a file"
        raise ModelError(
            f"model.name={name}: it is {what}, and no folder. Name a folder that save_pretrained() has made "
            "(transformers reads GGUF with gguf_file=...), or measure a server that runs it: engine=endpoint."
        )
    if Path(name).is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"model.name={name}: there is no such folder. Relative paths start at {Path.cwd()}.")


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
    except StrictDataclassError as error:
        raise ConfigError(
            f"model.architecture: {model_type} cannot be built so ({one_line(error)}); correct it."
        ) from error
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
    return ModelSource(
        config.name,
        architecture,
        "random",
        location=config.name if config.trust_remote_code else None,
        trust_remote_code=config.trust_remote_code,
        notices=notices,
    )


def _find_in_folder(config: LanguageModelConfig, folder: Path) -> ModelSource:
    architecture = _architecture_in(config, folder)
    suffixes = {".safetensors", ".bin", *([".py"] if config.trust_remote_code else [])}
    files = sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.is_file())
    if config.weights is Weights.random:
        return _random(config, architecture)
    if all(path.suffix == ".py" for path in files):
        if config.weights is Weights.pretrained:
            raise ModelError(f"model.weights=pretrained: {folder} holds no weights; use auto or random.")
        return _random(config, architecture, "comes without weights in its folder")
    fingerprint = {"files": {path.name: _file_fingerprint(path) for path in files}}
    return ModelSource(
        config.name,
        architecture,
        "pretrained",
        str(folder),
        trust_remote_code=config.trust_remote_code,
        fingerprint=fingerprint,
    )


def _architecture_in(config: LanguageModelConfig, folder: Path) -> PretrainedConfig:
    """Read the architecture in a folder; whatever a foreign file does to its readers is one line."""
    if not (folder / "config.json").is_file():
        gguf = next(folder.glob("*.gguf"), None)
        has = f" (it has {gguf.name}: transformers reads that with gguf_file=...)" if gguf else ""
        raise ModelError(
            f"model.name={folder}: the folder has no config.json{has}; name a folder that "
            "save_pretrained() or a download has made."
        )
    try:
        return AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=config.trust_remote_code
        )
    except Exception as error:
        if is_own_code(error):
            raise own_code_error(config.name) from error
        raise ModelError(
            f"model.name={folder}: its config.json cannot be read ({first_sentence(error)}); name a "
            "folder that save_pretrained() or a download has made."
        ) from error


def _file_fingerprint(path: Path) -> str:
    """Hash a file's size, start and end: enough to tell weights apart without reading all their gigabytes."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(FINGERPRINT_BYTES))
        file.seek(max(size - FINGERPRINT_BYTES, 0))
        digest.update(file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()


def _find_on_hub(config: LanguageModelConfig, architecture: PretrainedConfig | None) -> ModelSource:
    """Take the Hub's cache, then the Hub, then the written architecture with random weights."""
    cached = hub.cached_architecture(config)
    if cached is not None and config.weights is not Weights.random and hub.weights_are_cached(config):
        return _pretrained(config, cached, local_files_only=True)
    obstacle = hub.obstacle_to_download(config)
    if obstacle is None:
        remote = hub.remote_architecture(config)
        if config.weights is Weights.random:
            return _with(_random(config, remote), local_files_only=False)  # its tokenizer is to be fetched
        return _pretrained(config, remote, local_files_only=False)
    known = architecture or cached
    if config.weights is Weights.pretrained or known is None:
        raise ModelError(
            f"model.name={config.name}: it is no local folder, not complete in the Hub's cache, and "
            f"{obstacle}. Name a local folder, go online, or use a model whose architecture is written down "
            "(model=mistral-7b-instruct-v0.3, model=mistral-mini)."
        )
    return _random(config, known, "" if config.weights is Weights.random else f"cannot be had ({obstacle})")


def _pretrained(
    config: LanguageModelConfig, hf_config: PretrainedConfig, local_files_only: bool
) -> ModelSource:
    return ModelSource(
        config.name,
        hf_config,
        "pretrained",
        location=config.name,
        revision=config.revision,
        local_files_only=local_files_only,
        trust_remote_code=config.trust_remote_code,
        fingerprint={"commit": hub.cached_commit(config)},
    )
