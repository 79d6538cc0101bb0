"""Prompts side by side: the tensors that a batch is fed with, made before the first step.

Prompts of equal length are fed without a mask. Shorter ones are padded on their left, so that every
sequence's next token is in the last column, and a mask and positions go with every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Any id of the vocabulary would do: the mask keeps it out.
_PAD_ID = 0


@dataclass(frozen=True)
class Padding:
    """What a padded batch is fed besides its ids, for the whole request.

    Attributes
    ----------
    attention_mask : Tensor of shape (rows, longest prompt + max_new_tokens)
        1 where there is a token or will be, 0 where there is padding.
    position_ids : Tensor of that shape
        Each token's place in its own sequence.
    """

    attention_mask: torch.Tensor
    position_ids: torch.Tensor

    def between(self, start: int, end: int) -> dict[str, torch.Tensor]:
        """Return what the model is fed with the columns from `start` to before `end`: views, no copies."""
        return {
            "attention_mask": self.attention_mask[:, :end],
            "position_ids": self.position_ids[:, start:end],
        }


class NoPadding:
    """Prompts of equal length need neither mask nor positions."""

    def between(self, start: int, end: int) -> dict[str, torch.Tensor]:
        """Return nothing."""
        return {}


def side_by_side(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, num_beams: int, device: torch.device
) -> tuple[torch.Tensor, Padding | NoPadding]:
    """Put prompts into one batch, each as many rows as it has beams, the way transformers does.

    Returns
    -------
    input_ids : Tensor of shape (sequences × beams, longest prompt)
    padding : Padding or NoPadding
    """
    longest = max(map(len, prompts))
    missing = [longest - len(prompt) for prompt in prompts]
    padded = [[_PAD_ID] * gap + list(prompt) for gap, prompt in zip(missing, prompts, strict=True)]
    input_ids = torch.tensor(padded, device=device).repeat_interleave(num_beams, dim=0)
    if not any(missing):
        return input_ids, NoPadding()
    first = torch.tensor(missing, device=device).repeat_interleave(num_beams)[:, None]
    columns = torch.arange(longest + max_new_tokens, device=device)
    return input_ids, Padding((columns >= first).long(), (columns - first).clamp(min=0))
