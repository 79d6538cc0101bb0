"""Engines: how a model is made to produce its next token. One file an engine, behind one small protocol.

An engine speaks token ids and steps. Text, clocks, files and config are others' work.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

Choice = tuple[torch.Tensor, torch.Tensor | None]
"""The ids that are fed next, and which row each of them continues; None where every row goes on itself."""


class Decoder(Protocol):
    """How the next tokens are chosen from the logits; it runs inside the timed step, as it does when serving.

    Attributes
    ----------
    num_beams : int
        Rows that each sequence takes in the model's batch, side by side, from the prompt on.
    """

    num_beams: int

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Get ready for a fresh request; not timed."""

    def choose(self, logits: torch.Tensor) -> Choice:
        """Map logits of shape (rows, vocabulary) to the ids that are fed next, shape (rows, 1).

        The second value is None, or, where rows change places, the row that each one continues, shape
        (rows,): the engine reorders its cache by it.
        """

    def is_finished(self) -> bool:
        """Whether every sequence has come to its end; asked after each step where requests may end early."""

    def tokens(self, steps: Sequence[torch.Tensor]) -> list[list[int | None]]:
        """Return the tokens of each sequence, one a step that was taken for it; not timed.

        A sequence that is at its end has no more of them. One that is searched on, for a better one, keeps a
        None for each step beyond. Without a step there are no sequences.

        Parameters
        ----------
        steps : sequence of Tensor
            What each step returned, shape (rows, 1); of a request that broke off, the steps until then.
        """


class Engine(Protocol):
    """What the collector asks of an engine.

    `prepare` is not timed: whatever can be allocated before the first step is allocated there. The two
    phases are timed; each runs one step and returns the ids it generated, shape (rows, 1), without waiting
    for them; a row a sequence, or a row a beam. The collector keeps them until the request ends: an engine
    that generates into the same memory at every step returns a copy.

    Two names more are looked for where they are. The class may have a static method
    `check(device, quantization)`, which raises `ConfigError` where the engine cannot run, before anything is
    loaded. An engine may have `preparations`, a list of dicts of what `prepare` captured or compiled, with
    the seconds that it took: `capture_s`, and `compile_s` or None.
    """

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Any:
        """Return the state of a fresh request."""

    def prefill(self, state: Any) -> torch.Tensor:
        """Process the whole prompts and return token 0 of each."""

    def decode_one_token(self, state: Any) -> torch.Tensor:
        """Process the tokens before and return the next."""
