"""Eager decoding over what a model keeps of the tokens before: a forward pass a token, as transformers does.

Most models keep keys and values. Recurrent ones keep a state, under a name of their own.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from llmlat.errors import ModelError
from llmlat.measure.engines import Decoder
from llmlat.measure.engines.agreement import check_agreement
from llmlat.measure.engines.batch import Columns, side_by_side

_KEYS_AND_VALUES = "past_key_values"
# What Mamba and xLSTM call it, and RWKV.
_STATES = (_KEYS_AND_VALUES, "cache_params", "state")


@dataclass
class EagerState:
    """A request under way: what goes into the next step, and what the model keeps of all before it."""

    input_ids: torch.Tensor
    columns: Columns
    cache: Any
    cached: int = 0


class EagerEngine:
    """Decodes with what the model keeps from one step to the next.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model.
    decoder : Decoder
        Chooses the next tokens.

    Raises
    ------
    ModelError
        Where the model keeps nothing, or does not generate what `generate()` does.
    """

    uses_cache = True

    def __init__(self, model: PreTrainedModel, decoder: Decoder) -> None:
        self.model = model
        self.decoder = decoder
        taken = inspect.signature(type(model).forward).parameters
        self._cache_name = next((name for name in _STATES if name in taken), _KEYS_AND_VALUES)
        check_agreement(EagerEngine, model, "engine=eager", "engine=no_cache")

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> EagerState:
        """Put the prompts on the device, beside an empty cache."""
        input_ids, columns = side_by_side(prompts, max_new_tokens, self.decoder.num_beams, self.model.device)
        # A few architectures make what they keep themselves.
        is_given = getattr(self.model, "_supports_default_dynamic_cache", lambda: True)()
        return EagerState(input_ids, columns, DynamicCache(config=self.model.config) if is_given else None)

    def prefill(self, state: EagerState) -> torch.Tensor:
        """Process the whole prompts and return token 0 of each."""
        next_ids = self._forward(state)
        if state.cache is None:
            raise ModelError(
                f"engine=eager: {type(self.model).__name__} keeps nothing from one step to the next; use "
                "engine=no_cache, which runs the whole sequence at every step."
            )
        return next_ids

    def decode_one_token(self, state: EagerState) -> torch.Tensor:
        """Process the tokens before and return the next."""
        return self._forward(state)

    def _forward(self, state: EagerState) -> torch.Tensor:
        end = state.cached + state.input_ids.shape[1]
        fed = state.columns.between(state.cached, end)
        if self._cache_name != _KEYS_AND_VALUES and state.cached:
            fed.pop("attention_mask", None)  # a state holds no padding
        output = self.model(
            input_ids=state.input_ids,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: state.cache},
            **fed,
        )
        state.cached, state.cache = end, getattr(output, self._cache_name, None)
        state.input_ids, source = self.decoder.choose(output.logits[:, -1])
        if source is not None:
            self._reorder(state, source)
        return state.input_ids

    def _reorder(self, state: EagerState, source: torch.Tensor) -> None:
        """Let each row go on from what another one keeps."""
        if not hasattr(state.cache, "reorder_cache"):
            raise ModelError(
                f"decoding.num_beams={self.decoder.num_beams}: what {type(self.model).__name__} keeps cannot "
                "change places, as beams do; use decoding.num_beams=1, or engine=no_cache."
            )
        state.cache.reorder_cache(source)
