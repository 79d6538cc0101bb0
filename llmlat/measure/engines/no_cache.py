"""Decoding without a key-value cache: every step processes the whole sequence again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from llmlat.measure.engines import Decoder


@dataclass
class NoCacheState:
    """A request under way: a buffer for the whole sequence, and how much of it is filled."""

    sequence: torch.Tensor
    length: int


class NoCacheEngine:
    """Decodes by running the whole sequence at every step.

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

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> NoCacheState:
        """Put the prompts at the front of a buffer that holds the finished sequences."""
        input_ids = torch.tensor([list(prompt) for prompt in prompts], device=self.model.device)
        prompt_tokens = input_ids.shape[1]
        sequence = torch.zeros(
            (len(prompts), prompt_tokens + max_new_tokens), dtype=torch.long, device=self.model.device
        )
        sequence[:, :prompt_tokens] = input_ids
        return NoCacheState(sequence, prompt_tokens)

    def prefill(self, state: NoCacheState) -> torch.Tensor:
        """Process the whole prompt and return token 0."""
        return self._forward(state)

    def decode_one_token(self, state: NoCacheState) -> torch.Tensor:
        """Process prompt and generated tokens again and return the next."""
        return self._forward(state)

    def _forward(self, state: NoCacheState) -> torch.Tensor:
        output = self.model(input_ids=state.sequence[:, : state.length], use_cache=False, logits_to_keep=1)
        next_ids, _ = self.decoder.choose(output.logits[:, -1])
        state.sequence[:, state.length : state.length + 1] = next_ids
        state.length += 1
        return next_ids
