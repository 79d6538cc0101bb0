"""A rough guess of how long measuring takes, made before anything is loaded.

A step takes the longer of two times: the host's, launching kernels layer by layer, and the device's,
reading every weight once and, over the sequence it processes, multiplying with it. The constants are round
figures measured on an H200 and on two CPU cores; another machine is within a factor of a few, which is all
that the sentence "about 3 minutes" promises. The progress bar corrects it from the first request on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PretrainedConfig

from llmlat.config import CollectConfig, QuantizationName
from llmlat.measure.prompts import Request


@dataclass(frozen=True)
class Speed:
    """Round figures of a kind of device."""

    launch_ms_per_layer: dict[QuantizationName, float]
    bytes_per_s: float
    flop_per_s: float


SPEEDS = {
    "cuda": Speed(
        {QuantizationName.none: 0.6, QuantizationName.int8: 2.1, QuantizationName.nf4: 1.0}, 2e12, 2e14
    ),
    "cpu": Speed(
        {QuantizationName.none: 0.3, QuantizationName.int8: 2.0, QuantizationName.nf4: 0.8}, 1e10, 5e10
    ),
}
BYTES_PER_WEIGHT = {QuantizationName.none: 2.0, QuantizationName.int8: 1.0, QuantizationName.nf4: 0.5}


def count_parameters(config: PretrainedConfig) -> int:
    """Return about how many weights a decoder of this architecture has, where it is one as most are."""
    config = config.get_text_config()  # a model that sees has its decoder's numbers one level down
    hidden = int(config.hidden_size)
    heads = int(config.num_attention_heads)
    head_dim = int(getattr(config, "head_dim", None) or hidden // heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    feed_forward = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
    return int(config.num_hidden_layers) * (attention + 3 * hidden * feed_forward) + 2 * hidden * int(
        config.vocab_size
    )


def estimate_seconds(
    config: PretrainedConfig,
    requests: Iterable[Request],
    quantization: QuantizationName,
    device_type: str,
) -> float | None:
    """Return about how many seconds the requests take, loading left aside; None where nothing is known.

    An architecture may have no heads, a size for each layer, or names of its own: that stops nothing.

    Parameters
    ----------
    config : PretrainedConfig
        The model's architecture.
    requests : iterable of Request
    quantization : QuantizationName
    device_type : {'cpu', 'cuda'}
    """
    speed = SPEEDS[device_type]
    try:
        n_weights = count_parameters(config)
        n_layers = int(config.get_text_config().num_hidden_layers)
    except Exception:  # configs raise of their own, too
        return None
    launch_s = n_layers * speed.launch_ms_per_layer[quantization] / 1e3
    read_s = n_weights * BYTES_PER_WEIGHT[quantization] / speed.bytes_per_s

    def step_s(tokens: float) -> float:
        return max(launch_s, read_s, 2 * n_weights * tokens / speed.flop_per_s)

    total = 0.0
    for request in requests:
        prompt_tokens, n = request.prompt_tokens, request.max_new_tokens
        rows = len(request.prompts) * request.cell.num_beams
        # Without a cache a decode step processes the whole sequence again.
        decoded = prompt_tokens + n / 2 if request.cell.engine == "no_cache" else 1
        total += step_s(rows * prompt_tokens) + (n - 1) * step_s(rows * decoded)
    return total


def warm_up_seconds(collect: CollectConfig) -> float:
    """Return how long the warm-up takes at least; a fixed number of tokens is not worth a word."""
    return collect.warmup_floor_s if collect.warmup == "auto" else 0.0
