"""Attention over the used part of a static cache, as an attention implementation of transformers.

Every architecture that follows transformers' attention interface can decode with it. No mask is built: the
columns that are used are read on the device, so that a captured step costs what its context costs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from llmlat.errors import ModelError

NAME = "llmlat_used_length"
# Other kinds of layers keep a state instead, or attend within chunks.
_KINDS_OF_LAYERS = {"full_attention", "sliding_attention"}
# What some architectures do to their scores besides; ignoring it would generate other tokens.
_UNKNOWN = ("softcap", "s_aux", "position_bias")


def attend_used_length(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    first_columns: torch.Tensor | None = None,
    last_column: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend with one new token a row to the columns of the cache that hold its sequence.

    Parameters
    ----------
    module : Module
    query : Tensor of shape (rows, heads, 1, head_dim)
    key, value : Tensor of shape (rows, key heads, capacity, head_dim)
    attention_mask : None
    scaling : float, optional
        Multiplies the scores; 1 / √head_dim where there is none.
    sliding_window : int, optional
    first_columns : Tensor of shape (rows,)
    last_column : Tensor of shape (1,)
        What `llmlat.measure.engines.static_cache.StaticCache` knows, the new token's column being the last.
    **others
        What else transformers hands over.

    Returns
    -------
    tuple of Tensor of shape (rows, 1, heads, head_dim), and None

    Raises
    ------
    ModelError
        Where the architecture does something to its scores that is not done here.
    """
    for name in _UNKNOWN:
        if others.get(name) is not None:
            raise refusal(module, f"attends with {name}")
    if first_columns is None or last_column is None:
        raise refusal(module, "does not hand over where its tokens are")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.is_cuda:
        from llmlat.measure.engines.decode_attention import attend
    else:
        attend = attend_masked
    return attend(query, key, value, first_columns, last_column, scale, sliding_window), None


def check_architecture(model: PreTrainedModel) -> None:
    """Refuse a model some of whose layers are known not to attend to all tokens, or to the last so many.

    Raises
    ------
    ModelError
    """
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if others := sorted(kinds - _KINDS_OF_LAYERS):
        raise refusal(model, f"has layers of the kind {others[0]}")


def refusal(module: torch.nn.Module, what: str) -> ModelError:
    """Return the error of a model, or of one of its layers, that cannot decode so."""
    return ModelError(
        f"engine=cuda_graph: {type(module).__name__} {what}, so it cannot attend over the used length of a "
        "static cache; use engine=eager."
    )


def attend_masked(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Do what `llmlat.measure.engines.decode_attention.attend` does on any device, reading all there is."""
    columns = torch.arange(keys.shape[2], device=keys.device)
    is_used = (columns >= first[:, None]) & (columns <= last)
    if window is not None:
        is_used &= columns > last - window
    attended = torch.nn.functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=is_used[:, None, None], scale=scale, enable_gqa=True
    )
    return attended.transpose(1, 2)


AttentionInterface.register(NAME, attend_used_length)


@contextmanager
def attending_to_used_length(model: PreTrainedModel) -> Iterator[None]:
    """Let a model attend so within the block, whose calls decode over a static cache.

    Raises
    ------
    ModelError
        Where its architecture attends in a way of its own.
    """
    usual = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        # An architecture that does not follow the interface is left as it is, without an error.
        if model.config._attn_implementation != NAME:
            raise refusal(model, "attends in a way of its own")
        yield
    finally:
        model.set_attn_implementation(usual)
