"""Eager decoding over a growing key-value cache: one forward pass a token, as transformers runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from llmlat.measure.engines import Decoder
from llmlat.measure.engines.batch import NoPadding, Padding, side_by_side


@dataclass
class EagerState:
    """A request under way: what goes into the next step, and the keys and values of all before it."""

    input_ids: torch.Tensor
    padding: Padding | NoPadding
    cache: Any
    cached: int = 0


class EagerEngine:
    """Decodes with a key-value cache.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model.
    decoder : Decoder
        Chooses the next tokens.
    """

    def __init__(self, model: PreTrainedModel, decoder: Decoder) -> None:
        self.model = model
        self.decoder = decoder

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> EagerState:
        """Put the prompts on the device, beside an empty cache."""
        input_ids, padding = side_by_side(prompts, max_new_tokens, self.decoder.num_beams, self.model.device)
        return EagerState(input_ids, padding, DynamicCache(config=self.model.config))

    def prefill(self, state: EagerState) -> torch.Tensor:
        """Process the whole prompts and return token 0 of each."""
        return self._forward(state)

    def decode_one_token(self, state: EagerState) -> torch.Tensor:
        """Process the tokens before and return the next."""
        return self._forward(state)

    def _forward(self, state: EagerState) -> torch.Tensor:
        end = state.cached + state.input_ids.shape[1]
        output = self.model(
            input_ids=state.input_ids,
            past_key_values=state.cache,
            use_cache=True,
            logits_to_keep=1,
            **state.padding.between(state.cached, end),
        )
        state.cached = end
        state.input_ids, source = self.decoder.choose(output.logits[:, -1])
        if source is not None:
            state.cache.reorder_cache(source)
        return state.input_ids
