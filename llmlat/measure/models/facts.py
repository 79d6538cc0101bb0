"""What a loaded model weighs, and what a cached token weighs: the bytes that a decode step has to read."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

# What bitsandbytes keeps beside the quantised values: scales, and the scales' own scales.
_INT8_SCALES = ("SCB",)
_NF4_SCALES = ("absmax", "code", "offset")


def model_facts(model: PreTrainedModel) -> dict[str, int | None]:
    """Return the sizes that bound how fast a model can decode, as it is before its first step.

    From that step on, bitsandbytes keeps the scales of its int8 layers elsewhere.

    Returns
    -------
    dict
        `n_parameters`; `weight_bytes`, what a decode step reads of them: everything as it is stored, scales
        of quantised layers too, without tables of embeddings, of which it reads a row a token;
        `kv_bytes_per_token`, keys and values of one token in all layers; and of the architecture
        `bytes_per_value`, `n_layers`, `hidden_size`, `n_heads`, `n_kv_heads`, `head_dim`, `feed_forward`,
        `vocabulary` and `sliding_window`,
        where every layer has one. None stands for what the architecture does not have. Of experts,
        `weight_bytes` counts every one.
    """
    sizes = _attention_sizes(model.config.get_text_config())
    kv_sizes = [sizes[name] for name in ("n_layers", "n_kv_heads", "head_dim")]
    known = [size for size in kv_sizes if size is not None]
    return {
        "n_parameters": int(model.num_parameters()),
        "weight_bytes": sum(tensor.nbytes for tensor in _read_by_a_step(model)),
        "kv_bytes_per_token": 2 * math.prod(known) * model.dtype.itemsize if known == kv_sizes else None,
        "bytes_per_value": model.dtype.itemsize,
        **sizes,
    }


def _attention_sizes(config: PreTrainedConfig) -> dict[str, int | None]:
    """Return the sizes that an architecture names; not every one has attention."""
    n_heads = getattr(config, "num_attention_heads", None)
    hidden_size = getattr(config, "hidden_size", None)
    per_head = hidden_size // n_heads if hidden_size and n_heads else None
    return {
        "n_layers": getattr(config, "num_hidden_layers", None),
        "hidden_size": hidden_size,
        "n_heads": n_heads,
        "n_kv_heads": getattr(config, "num_key_value_heads", None) or n_heads,
        "head_dim": getattr(config, "head_dim", None) or per_head,
        "feed_forward": getattr(config, "intermediate_size", None),
        "vocabulary": getattr(config, "vocab_size", None),
        "sliding_window": _window(config),
    }


def _window(config: PreTrainedConfig) -> int | None:
    """Return how many tokens back every layer attends; None where some layer attends to all."""
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    window: int | None = getattr(config, "sliding_window", None)
    return window if kinds == {"sliding_attention"} else None


def _read_by_a_step(model: PreTrainedModel) -> Iterator[torch.Tensor]:
    """Yield every tensor of weights that a decode step reads whole, once each."""
    output = model.get_output_embeddings()
    # Tied to the output layer, a table of embeddings is read whole all the same.
    used_whole = None if output is None else id(output.weight)
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for parameter in model.parameters():
        if id(parameter) not in looked_up - {used_whole}:
            yield parameter
            yield from _scales(parameter)


def _scales(parameter: Any) -> Iterator[torch.Tensor]:
    """Yield what a quantised weight is scaled with."""
    state = getattr(parameter, "quant_state", None)
    holders = [(parameter, _INT8_SCALES), (state, _NF4_SCALES), (getattr(state, "state2", None), _NF4_SCALES)]
    for holder, names in holders:
        found = (getattr(holder, name, None) for name in names)
        yield from (scales for scales in found if isinstance(scales, torch.Tensor))
