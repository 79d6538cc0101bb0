"""Loading a model: from its weights where they can be had, from a seed otherwise, quantised on the way in."""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from llmlat.config import QuantizationName
from llmlat.errors import LlmlatError, ModelError, one_line
from llmlat.measure.machine.device import is_out_of_memory
from llmlat.measure.machine.host import if_told
from llmlat.measure.models.sources import ModelSource

BITS = {QuantizationName.int8: 8, QuantizationName.nf4: 4}
"""What a quantised weight takes."""


def compute_dtype(quantization: QuantizationName, device: torch.device) -> torch.dtype:
    """Return the dtype of everything that is not quantised.

    LLM.int8() multiplies in float16 and would cast at every call from anything else. CPUs are quickest in
    float32.
    """
    if device.type == "cpu":
        return torch.float32
    return torch.float16 if quantization is QuantizationName.int8 else torch.bfloat16


def load_model(
    source: ModelSource, quantization: QuantizationName, device: torch.device, seed: int
) -> PreTrainedModel:
    """Load a model, ready to generate.

    Parameters
    ----------
    source : ModelSource
        From `llmlat.measure.models.sources.find_model`.
    quantization : QuantizationName
    device : torch.device
    seed : int
        Seeds weights that are initialised at random.

    Raises
    ------
    ModelError
        Where bitsandbytes cannot run here, memory runs out, or the weights cannot be read.
    """
    quiet_libraries()
    options: dict[str, Any] = {
        "dtype": compute_dtype(quantization, device),
        "device_map": {"": str(device)},
        "quantization_config": _quantization_config(quantization, device),
    }
    with _own_random_state(device), _explained(source, quantization, device):
        if device.type == "cpu":
            _check_host_memory(source, quantization, options["dtype"])
        if quantization is not QuantizationName.none:
            _check_bitsandbytes(quantization, device)
        if source.weights == "random":
            model = _initialise(source, options, device, seed)
        else:
            model = _load_pretrained(source, options)
    model.eval().requires_grad_(False)
    return model


def _load_pretrained(source: ModelSource, options: dict[str, Any]) -> Any:
    """Load weights from a folder, the Hub's cache or the Hub, every one of them."""
    model, loaded = AutoModelForCausalLM.from_pretrained(
        source.location,
        config=source.hf_config,
        revision=source.revision,
        local_files_only=source.local_files_only,
        trust_remote_code=source.trust_remote_code,
        output_loading_info=True,
        **options,
    )
    # transformers fills what is missing at random: such a model must not be called pretrained.
    if missing := sorted(loaded["missing_keys"]):
        raise ModelError(
            f"model.name={source.name}: its files lack {len(missing)} weights of its architecture, "
            f"{missing[0]} the first; complete them, or use model.weights=random."
        )
    return model


def _initialise(source: ModelSource, options: dict[str, Any], device: torch.device, seed: int) -> Any:
    """Initialise the architecture at random, and quantise it by the same path as pretrained weights."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = _from_config(source, options["dtype"])
    if options["quantization_config"] is None:
        return model
    return type(model).from_pretrained(
        None, config=source.hf_config, state_dict=model.state_dict(), **options
    )


def _from_config(source: ModelSource, dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_config(
        source.hf_config, dtype=dtype, trust_remote_code=source.trust_remote_code
    )


def _quantization_config(quantization: QuantizationName, device: torch.device) -> BitsAndBytesConfig | None:
    if quantization is QuantizationName.int8:
        return BitsAndBytesConfig(load_in_8bit=True)
    if quantization is QuantizationName.nf4:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=compute_dtype(quantization, device),
        )
    return None


def _check_host_memory(source: ModelSource, quantization: QuantizationName, dtype: torch.dtype) -> None:
    """Refuse weights that cannot fit: a system short of memory ends a process without a word.

    What a model needs at least is its weights; one initialised at random is not quantised before it is whole.
    """
    with torch.device("meta"):
        model = _from_config(source, dtype)
    is_quantised_first = source.weights == "pretrained" and quantization in BITS
    bits = BITS[quantization] if is_quantised_first else 8 * dtype.itemsize
    needed = sum(parameter.numel() for parameter in model.parameters()) * bits // 8
    free = if_told(lambda: psutil.virtual_memory().available + psutil.swap_memory().free)
    if free is not None and needed > free:
        would_help = source.weights == "pretrained" and quantization is not QuantizationName.nf4
        raise ModelError(
            f"model.name={source.name}: its weights take at least {needed / 2**30:.1f} GiB with "
            f"quantization={quantization} on the CPU, and {free / 2**30:.1f} GiB of memory are free; use "
            f"{'quantization=nf4, ' if would_help else ''}a smaller model, or a machine with more memory."
        )


def _check_bitsandbytes(quantization: QuantizationName, device: torch.device) -> None:
    """Quantise and run one small layer, so that a library that cannot is found out before loading."""
    try:
        import bitsandbytes as bnb

        layer = (
            bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False, threshold=6.0)
            if quantization is QuantizationName.int8
            else bnb.nn.Linear4bit(64, 64, quant_type="nf4")
        )
        with torch.inference_mode():
            layer.to(device)(torch.ones(1, 64, dtype=compute_dtype(quantization, device), device=device))
    except Exception as error:
        reason = one_line(error)
        raise ModelError(
            f"quantization={quantization}: bitsandbytes cannot run on {device} here ({reason}); "
            "install a build for this machine, or use quantization=none."
        ) from error


def _own_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Leave everybody else's random numbers as they are."""
    fork: AbstractContextManager[None] = torch.random.fork_rng([device] if device.type == "cuda" else [])
    return fork


@contextmanager
def _explained(source: ModelSource, quantization: QuantizationName, device: torch.device) -> Iterator[None]:
    """Turn what can go wrong while loading into one line."""
    try:
        yield
    except LlmlatError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"model={source.name}: out of memory on {device} while loading it with "
                f"quantization={quantization}; use quantization=nf4, a smaller model, or a device with "
                "more memory."
            ) from error
        if source.weights == "pretrained" and isinstance(
            error, OSError | ValueError | RuntimeError | SafetensorError
        ):
            reason = one_line(error)
            raise ModelError(
                f"model.name={source.name}: its weights cannot be loaded ({reason}); "
                "check model.name, or use model.weights=random."
            ) from error
        raise


def quiet_libraries() -> None:
    """Keep the libraries' notes a layer and call out of the output, and progress bars out of pipes."""
    # MatMul8bitLt warns of its cast at every call; the dtype is chosen in `compute_dtype` and recorded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    if sys.stderr.isatty():
        transformers_logging.enable_progress_bar()
    else:
        transformers_logging.disable_progress_bar()
