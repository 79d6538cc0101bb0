"""Engines: how a model is made to produce its next token. One file an engine, behind one small protocol.

An engine speaks token ids and steps. Text, clocks, files and config are others' work.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

Chooser = Callable[[torch.Tensor], torch.Tensor]
"""Maps logits of shape (batch, vocabulary) to token ids of shape (batch, 1), on the same device."""


class Engine(Protocol):
    """What the collector asks of an engine.

    `prepare` is not timed: whatever can be allocated before the first step is allocated there. The two
    phases are timed; each runs one step and returns the ids it generated, shape (batch, 1), without waiting
    for them. The collector keeps them until the request ends: an engine that generates into the same memory
    at every step returns a copy.
    """

    def prepare(self, token_ids: Sequence[int], max_new_tokens: int) -> Any:
        """Return the state of a fresh request."""

    def prefill(self, state: Any) -> torch.Tensor:
        """Process the whole prompt and return token 0."""

    def decode_one_token(self, state: Any) -> torch.Tensor:
        """Process the token before and return the next."""
