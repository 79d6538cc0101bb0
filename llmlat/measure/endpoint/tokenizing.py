"""The tokenizer of `model`, for what a server does not do: count prompts, or cut them to a length."""

import os

from llmlat.config import LanguageModelConfig, TokenizerName
from llmlat.measure.models.tokenizers import Tokenizer, make_tokenizer


def find_tokenizer(model: LanguageModelConfig) -> Tokenizer:
    """Return the tokenizer that a model config names.

    Raises
    ------
    ModelError
        Where there is none here, and none to be had.
    """
    return make_tokenizer(
        model.tokenizer, model.name, model.revision, _is_only_here(model), model.trust_remote_code
    )


def _is_only_here(model: LanguageModelConfig) -> bool:
    """Whether a tokenizer is on this machine or nowhere: the Hub is asked first, for it may not answer."""
    if model.tokenizer is not TokenizerName.auto or os.path.isdir(model.name):
        return True
    from llmlat.measure.models.hub import obstacle_to_download

    return obstacle_to_download(model) is not None
