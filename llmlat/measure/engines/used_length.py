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
    refused = [name for name in _UNKNOWN if others.get(name) is not None]
    if first_columns is None or last_column is None:
        refused = ["its own way of attending"]
    if refused:
        raise ModelError(
            f"engine=cuda_graph: {type(module).__name__} attends with {refused[0]}, which its attention over "
            "the used length does not know; use engine=eager."
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.is_cuda:
        from llmlat.measure.engines.decode_attention import attend
    else:
        attend = attend_masked
    return attend(query, key, value, first_columns, last_column, scale, sliding_window), None


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
    """Let a model attend so within the block, whose calls decode over a static cache."""
    usual = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
