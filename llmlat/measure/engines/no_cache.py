"""Decoding without a key-value cache: every step processes the whole sequence again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from llmlat.measure.engines import Chooser


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
    choose : callable
        Maps logits of shape (batch, vocabulary) to token ids of shape (batch, 1).
    """

    def __init__(self, model: PreTrainedModel, choose: Chooser) -> None:
        self.model = model
        self.choose = choose

    def prepare(self, token_ids: Sequence[int], max_new_tokens: int) -> NoCacheState:
        """Put the prompt at the front of a buffer that holds the finished sequence."""
        prompt_tokens = len(token_ids)
        sequence = torch.zeros(
            (1, prompt_tokens + max_new_tokens), dtype=torch.long, device=self.model.device
        )
        sequence[0, :prompt_tokens] = torch.tensor(list(token_ids), device=self.model.device)
        return NoCacheState(sequence, prompt_tokens)

    def prefill(self, state: NoCacheState) -> torch.Tensor:
        """Process the whole prompt and return token 0."""
        return self._forward(state)

    def decode_one_token(self, state: NoCacheState) -> torch.Tensor:
        """Process prompt and generated tokens again and return the next."""
        return self._forward(state)

    def _forward(self, state: NoCacheState) -> torch.Tensor:
        output = self.model(input_ids=state.sequence[:, : state.length], use_cache=False, logits_to_keep=1)
        next_ids = self.choose(output.logits[:, -1])
        state.sequence[:, state.length : state.length + 1] = next_ids
        state.length += 1
        return next_ids
