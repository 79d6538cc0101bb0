"""The shape of a transformer, from its configuration alone: what its steps read and compute follows from it.

No weights and no torch: a `config.json` is enough, so a model can be asked about before it is downloaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmlat.errors import ConfigError, one_line

BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
"""What a value takes, by the name of its type."""

_NAMES = {
    "n_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "n_heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "vocabulary": "vocab_size",
}


def read_shape(path: Path, key: str = "model.config") -> dict[str, float]:
    """Return the shape in a `config.json`.

    Raises
    ------
    ConfigError
        Where it cannot be read, or does not name a size; it names `key`.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{key}={path}: cannot be read ({one_line(error)}).") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{key}={path}: it is no model's config.json.")
    try:
        return shape_of(config.get("text_config") or config)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}={path}: it does not tell {one_line(error)}.") from error


def shape_of(config: Mapping[str, Any]) -> dict[str, float]:
    """Return what a configuration says of a dense transformer with gated feed-forward layers.

    Parameters
    ----------
    config : mapping
        By the names of Hugging Face's `config.json`.

    Returns
    -------
    dict of str to float
        `n_layers`, `hidden_size`, `n_heads`, `n_kv_heads`, `head_dim`, `feed_forward`, `vocabulary`,
        `bytes_per_value`; and what follows: `n_parameters`, `weight_bytes` (what a decode step reads: no
        table of embeddings that is not the output layer's as well) and `kv_bytes_per_token`. Norms and
        biases, under 0.1 %, are left out.

    Raises
    ------
    KeyError
        Where a size is missing.

    Examples
    --------
    >>> mistral_7b = {
    ...     "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    ...     "intermediate_size": 14336, "vocab_size": 32768, "torch_dtype": "bfloat16",
    ... }
    >>> shape = shape_of(mistral_7b)
    >>> round(shape["n_parameters"] / 1e9, 2), shape["kv_bytes_per_token"]
    (7.25, 131072.0)
    """
    shape = {ours: float(config[theirs]) for ours, theirs in _NAMES.items()}
    shape["n_kv_heads"] = float(config.get("num_key_value_heads") or shape["n_heads"])
    shape["head_dim"] = float(config.get("head_dim") or shape["hidden_size"] // shape["n_heads"])
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    shape["bytes_per_value"] = float(BYTES_OF[dtype])
    attention, kv = (shape[heads] * shape["head_dim"] for heads in ("n_heads", "n_kv_heads"))
    a_layer = shape["hidden_size"] * (2 * attention + 2 * kv + 3 * shape["feed_forward"])
    head = shape["hidden_size"] * shape["vocabulary"]
    read = shape["n_layers"] * a_layer + head
    return {
        **shape,
        "n_parameters": read if config.get("tie_word_embeddings") else read + head,
        "weight_bytes": read * shape["bytes_per_value"],
        "kv_bytes_per_token": 2 * shape["n_layers"] * kv * shape["bytes_per_value"],
    }
