"""Eager decoding over a growing key-value cache: one forward pass a token, as transformers runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from llmlat.measure.engines import Decoder


@dataclass
class EagerState:
    """A request under way: what goes into the next step, and the keys and values of all before it."""

    input_ids: torch.Tensor
    cache: Any


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
        input_ids = torch.tensor([list(prompt) for prompt in prompts], device=self.model.device)
        return EagerState(input_ids, DynamicCache(config=self.model.config))

    def prefill(self, state: EagerState) -> torch.Tensor:
        """Process the whole prompt and return token 0."""
        return self._forward(state)

    def decode_one_token(self, state: EagerState) -> torch.Tensor:
        """Process the token before and return the next."""
        return self._forward(state)

    def _forward(self, state: EagerState) -> torch.Tensor:
        output = self.model(
            input_ids=state.input_ids, past_key_values=state.cache, use_cache=True, logits_to_keep=1
        )
        state.input_ids, _ = self.decoder.choose(output.logits[:, -1])
        return state.input_ids
