"""Decoding without a key-value cache: every step processes the whole sequence again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from llmlat.measure.engines import Decoder
from llmlat.measure.engines.agreement import check_agreement
from llmlat.measure.engines.batch import Columns, side_by_side


@dataclass
class NoCacheState:
    """A request under way: a buffer for the whole sequences, and how much of it is filled."""

    sequences: torch.Tensor
    columns: Columns
    length: int


class NoCacheEngine:
    """Decodes by running the whole sequences at every step.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model.
    decoder : Decoder
        Chooses the next tokens.

    Raises
    ------
    ModelError
        Where the model does not generate what `generate()` does.
    """

    uses_cache = False

    def __init__(self, model: PreTrainedModel, decoder: Decoder) -> None:
        self.model = model
        self.decoder = decoder
        check_agreement(NoCacheEngine, model, "engine=no_cache", "another model")

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> NoCacheState:
        """Put the prompts at the front of a buffer that holds the finished sequences."""
        input_ids, columns = side_by_side(prompts, max_new_tokens, self.decoder.num_beams, self.model.device)
        rows, length = input_ids.shape
        sequences = torch.cat([input_ids, input_ids.new_zeros(rows, max_new_tokens)], dim=1)
        return NoCacheState(sequences, columns, length)

    def prefill(self, state: NoCacheState) -> torch.Tensor:
        """Process the whole prompts and return token 0 of each."""
        return self._forward(state)

    def decode_one_token(self, state: NoCacheState) -> torch.Tensor:
        """Process prompts and generated tokens again and return the next."""
        return self._forward(state)

    def _forward(self, state: NoCacheState) -> torch.Tensor:
        output = self.model(
            input_ids=state.sequences[:, : state.length],
            use_cache=False,
            logits_to_keep=1,
            **state.columns.between(0, state.length),
        )
        next_ids, source = self.decoder.choose(output.logits[:, -1])
        if source is not None:
            state.sequences = state.sequences.index_select(0, source)
        state.sequences[:, state.length : state.length + 1] = next_ids
        state.length += 1
        return next_ids
