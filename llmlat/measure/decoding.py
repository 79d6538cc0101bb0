"""How the next token is chosen from the logits. It runs inside the timed step, as it does when serving.

The tokens are those of `generate()` of transformers with the same settings; sampling uses its own logits
warpers, in its order.
"""

import math
from collections.abc import Collection, Sequence

import torch
from transformers import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmlat.errors import ConfigError
from llmlat.measure.beams import Beams
from llmlat.measure.cells import Cell
from llmlat.measure.engines import Choice, Decoder

# A length to a power beyond this leaves the numbers that a float32 can tell apart.
_LENGTH_PENALTY = 10
# More rows than any device has memory for, and more tokens than any model knows.
_MOST = 1_000_000


class Greedy:
    """Takes the likeliest token.

    Parameters
    ----------
    eos_ids : collection of int, optional
        Tokens that end a sequence; empty to go on to the last step.
    pad_id : int, optional
        What a sequence is fed after its end, until the others are at theirs; the first of `eos_ids` where
        there is none.
    device : torch.device or str, default="cpu"
        Where the logits are.
    """

    num_beams = 1

    def __init__(
        self,
        eos_ids: Collection[int] = (),
        pad_id: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.eos_ids = tuple(eos_ids)
        self.pad_id = (*self.eos_ids, 0)[0] if pad_id is None else pad_id
        self.device = device
        self._eos = torch.tensor(self.eos_ids, device=device) if self.eos_ids else None

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Get ready for a fresh request."""
        self._has_ended = torch.zeros((n_sequences, 1), dtype=torch.bool, device=self.device)

    def choose(self, logits: torch.Tensor) -> Choice:
        """Return the ids of shape (rows, 1) that are fed next."""
        ids = self._draw(logits)
        if self._eos is not None:
            # All on the device: only `is_finished` waits for it.
            ids = ids.masked_fill(self._has_ended, self.pad_id)
            self._has_ended = self._has_ended | (ids == self._eos).any(dim=-1, keepdim=True)
        return ids, None

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.argmax(dim=-1, keepdim=True)

    def is_finished(self) -> bool:
        """Whether every sequence has come to its end."""
        return bool(self._has_ended.all())

    def tokens(self, steps: Sequence[torch.Tensor]) -> list[list[int | None]]:
        """Return the tokens of each sequence, up to and with the one that ends it."""
        return [self._until_end(row) for row in torch.cat(list(steps), dim=1).tolist()] if steps else []

    def _until_end(self, row: list[int]) -> list[int | None]:
        ends = (place for place, token in enumerate(row, start=1) if token in self.eos_ids)
        return list(row[: next(ends, None)])


class Sampler(Greedy):
    """Draws from the softmax of the logits, repeatably: of some of them, over a temperature.

    Parameters
    ----------
    temperature : float
        Divides the logits; above 0.
    top_k : int, optional
        Only the likeliest so many tokens may be drawn.
    top_p : float, optional
        Only the likeliest tokens that together have this share of probability may be drawn, after `top_k`.
    eos_ids, pad_id, device
        As in `Greedy`.
    """

    def __init__(
        self,
        temperature: float,
        top_k: int | None = None,
        top_p: float | None = None,
        eos_ids: Collection[int] = (),
        pad_id: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(eos_ids, pad_id, device)
        self.generator = torch.Generator(device)
        # A warper that would change nothing is left out, as in transformers: it would cost time.
        self.warpers: list[LogitsProcessor] = []
        if temperature != 1:
            self.warpers.append(TemperatureLogitsWarper(temperature))
        if top_k is not None:
            self.warpers.append(TopKLogitsWarper(top_k))
        if top_p is not None and top_p < 1:
            self.warpers.append(TopPLogitsWarper(top_p))

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Seed the draws of a fresh request."""
        super().begin(n_sequences, max_new_tokens, seed)
        self.generator.manual_seed(seed)

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        # These warpers look at the scores alone, and not at the ids before them.
        scores = logits.float()
        for warper in self.warpers:
            scores = warper(None, scores)
        return torch.multinomial(torch.softmax(scores, dim=-1), 1, generator=self.generator)


def check_cell(cell: Cell) -> None:
    """Refuse decoding settings that are none, or that would do nothing.

    Raises
    ------
    ConfigError
        Naming the first setting that is wrong, and what it may be.
    """
    for name in ("batch_size", "num_beams", "top_k"):
        value = getattr(cell, name)
        if value is not None and not 1 <= value <= _MOST:
            raise ConfigError(f"decoding.{name}={value}: use a whole number from 1 to {_MOST}.")
    if not 0 <= cell.temperature < math.inf:
        raise ConfigError(f"decoding.temperature={cell.temperature}: use 0 for greedy decoding, or above 0.")
    if cell.top_p is not None and not 0 < cell.top_p <= 1:
        raise ConfigError(f"decoding.top_p={cell.top_p}: use a share above 0 and up to 1, or null.")
    if not -_LENGTH_PENALTY <= cell.length_penalty <= _LENGTH_PENALTY:
        raise ConfigError(
            f"decoding.length_penalty={cell.length_penalty}: use a number from -{_LENGTH_PENALTY} to "
            f"{_LENGTH_PENALTY}; 1 is usual."
        )
    _check_together(cell)


def _check_together(cell: Cell) -> None:
    """Refuse settings of which one makes another meaningless."""
    if cell.num_beams > 1 and cell.temperature > 0:
        raise ConfigError(
            f"decoding.num_beams={cell.num_beams}: beam search draws nothing, so it has no temperature "
            f"({cell.temperature}); set decoding.temperature=0, or decoding.num_beams=1 to sample."
        )
    for name in ("top_k", "top_p"):
        value = getattr(cell, name)
        if value is not None and cell.temperature == 0:
            raise ConfigError(
                f"decoding.{name}={value}: only sampling looks at it; set decoding.temperature above 0, "
                f"or decoding.{name}=null."
            )


def make_decoder(
    cell: Cell, device: torch.device, eos_ids: Collection[int] = (), pad_id: int | None = None
) -> Decoder:
    """Return the decoder that a cell describes.

    Parameters
    ----------
    cell : Cell
    device : torch.device
        Where the logits are.
    eos_ids : collection of int, optional
        Tokens that end a sequence; empty where none shall.
    pad_id : int, optional
        What a sequence is fed after its end.
    """
    if cell.num_beams > 1:
        return Beams(cell.num_beams, cell.length_penalty, eos_ids, device)
    if cell.temperature > 0:
        return Sampler(cell.temperature, cell.top_k, cell.top_p, eos_ids, pad_id, device)
    return Greedy(eos_ids, pad_id, device)
