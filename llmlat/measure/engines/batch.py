"""Prompts side by side: the tensors that a batch is fed with, made before the first step.

Every token goes with its position, as in `generate()` of transformers: left to themselves, some architectures
count otherwise. Prompts of equal length are fed without a mask. Shorter ones are padded on their left, so
that every sequence's next token is in the last column, and a mask goes with every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Any id of the vocabulary would do: the mask keeps it out.
_PAD_ID = 0


@dataclass(frozen=True)
class Columns:
    """What a batch is fed besides its ids, for the whole request.

    Attributes
    ----------
    position_ids : Tensor of shape (rows, longest prompt + max_new_tokens)
        Each token's place in its own sequence.
    attention_mask : Tensor of that shape, or None
        1 where there is a token or will be, 0 where there is padding; None where nothing is padded.
    """

    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None

    def between(self, start: int, end: int) -> dict[str, torch.Tensor]:
        """Return what the model is fed with the columns from `start` to before `end`: views, no copies."""
        fed = {"position_ids": self.position_ids[:, start:end]}
        return fed if self.attention_mask is None else {**fed, "attention_mask": self.attention_mask[:, :end]}


def side_by_side(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, num_beams: int, device: torch.device
) -> tuple[torch.Tensor, Columns]:
    """Put prompts into one batch, each as many rows as it has beams, the way transformers does.

    Returns
    -------
    input_ids : Tensor of shape (sequences × beams, longest prompt)
    columns : Columns
    """
    longest = max(map(len, prompts))
    missing = [longest - len(prompt) for prompt in prompts]
    padded = [[_PAD_ID] * gap + list(prompt) for gap, prompt in zip(missing, prompts, strict=True)]
    input_ids = torch.tensor(padded, device=device).repeat_interleave(num_beams, dim=0)
    first = torch.tensor(missing, device=device).repeat_interleave(num_beams)[:, None]
    columns = torch.arange(longest + max_new_tokens, device=device)
    mask = (columns >= first).long() if any(missing) else None
    return input_ids, Columns((columns - first).clamp(min=0), mask)
