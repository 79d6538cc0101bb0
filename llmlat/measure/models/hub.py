"""The Hugging Face Hub and its cache: what they have of a model, asked without waiting long for an answer."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoConfig, PretrainedConfig

from llmlat.config import LanguageModelConfig
from llmlat.errors import ModelError
from llmlat.measure.models.own_code import first_sentence, is_own_code, own_code_error

HUB_DEADLINE_S = 4.0
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")


def cached_architecture(config: LanguageModelConfig) -> PretrainedConfig | None:
    """Return the architecture in the Hub's cache, if it is there.

    Raises
    ------
    ModelError
        Where it takes code of the model's own, which the config does not trust.
    """
    try:
        return AutoConfig.from_pretrained(
            config.name,
            revision=config.revision,
            local_files_only=True,
            trust_remote_code=config.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        if is_own_code(error):
            raise own_code_error(config.name) from error
        return None


def cached_commit(config: LanguageModelConfig) -> str | None:
    """Return the commit whose config.json the Hub's cache gives, which names the weights."""
    path = try_to_load_from_cache(config.name, "config.json", revision=config.revision)
    return Path(path).parent.name if isinstance(path, str) else None


def weights_are_cached(config: LanguageModelConfig) -> bool:
    """Tell whether every file of the weights is in the Hub's cache."""

    def cached(filename: str) -> str | None:
        path = try_to_load_from_cache(config.name, filename, revision=config.revision)
        return path if isinstance(path, str) else None

    def whole(index: str) -> bool:
        path = cached(index)
        return path is not None and all(
            cached(shard) for shard in set(json.loads(Path(path).read_text())["weight_map"].values())
        )

    return any(cached(name) for name in _SINGLE_FILES) or any(whole(index) for index in _INDEXES)


def obstacle_to_download(config: LanguageModelConfig) -> str | None:
    """Ask the Hub, within a few seconds, whether the model can be downloaded.

    Returns
    -------
    str or None
        Why not; or None where it can.

    Raises
    ------
    ModelError
        Where the Hub answers that there is no such model, or the name cannot be one.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids asking the Hub"

    def ask() -> None:
        validate_repo_id(config.name)
        HfApi().auth_check(config.name)

    answer = _within(HUB_DEADLINE_S, ask)
    if isinstance(answer, TimeoutError):
        return str(answer)
    if isinstance(answer, GatedRepoError):
        return (
            "the Hub gives it only to those who accepted its terms: do so on its page, then `hf auth login`"
        )
    if isinstance(answer, RepositoryNotFoundError | HFValidationError):
        raise ModelError(
            f"model.name={config.name}: the Hub has no such model (or it is private: `hf auth login`); "
            "check the name, or name a local folder."
        ) from answer
    if isinstance(answer, BaseException):
        return f"the Hub cannot be reached ({type(answer).__name__})"
    return None


def remote_architecture(config: LanguageModelConfig) -> PretrainedConfig:
    """Read the architecture of a model that the Hub gives.

    Raises
    ------
    ModelError
        Where it cannot be had after all.
    """
    answer = _within(
        HUB_DEADLINE_S,
        lambda: AutoConfig.from_pretrained(
            config.name, revision=config.revision, trust_remote_code=config.trust_remote_code
        ),
    )
    if isinstance(answer, Exception):
        if is_own_code(answer):
            raise own_code_error(config.name) from answer
        raise ModelError(
            f"model.name={config.name}: its config.json cannot be had from the Hub "
            f"({first_sentence(answer)}); check model.name and model.revision, or name a local folder."
        ) from answer
    architecture: PretrainedConfig = answer
    return architecture


def _within(seconds: float, ask: Callable[[], Any]) -> Any:
    """Run a call on a thread for at most so long; return its answer, or the exception that it ended in.

    A thread, because no timeout of an HTTP client bounds the name look-up before it.
    """
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else TimeoutError(f"the Hub did not answer within {seconds:.0f} s")
