"""How the next token is chosen from the logits. It runs inside the timed step, as it does when serving."""

import math
from collections.abc import Sequence

import torch

from llmlat.errors import ConfigError
from llmlat.measure.cells import Cell
from llmlat.measure.engines import Decoder

Choice = tuple[torch.Tensor, torch.Tensor | None]


class Greedy:
    """Takes the likeliest token.

    Parameters
    ----------
    eos_ids : frozenset of int
        Tokens that end a sequence; empty to go on to the last step.
    """

    num_beams = 1

    def __init__(self, eos_ids: frozenset[int] = frozenset()) -> None:
        self.eos_ids = eos_ids

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Get ready for a fresh request."""
        self._last = torch.empty(0)

    def choose(self, logits: torch.Tensor) -> Choice:
        """Return the ids of shape (rows, 1) that are fed next."""
        self._last = self._draw(logits)
        return self._last, None

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.argmax(dim=-1, keepdim=True)

    def is_finished(self) -> bool:
        """Whether every sequence has come to its end."""
        return all(int(token) in self.eos_ids for token in self._last)

    def tokens(self, steps: Sequence[torch.Tensor]) -> list[list[int]]:
        """Return the tokens of each sequence."""
        return torch.cat(list(steps), dim=1).tolist() if steps else []


class Sampler(Greedy):
    """Draws from the softmax of logits over a temperature, repeatably.

    Parameters
    ----------
    temperature : float
        Divides the logits; above 0.
    device : torch.device
        Where the logits are.
    """

    def __init__(
        self, temperature: float, device: torch.device, eos_ids: frozenset[int] = frozenset()
    ) -> None:
        super().__init__(eos_ids)
        self.temperature = temperature
        self.generator = torch.Generator(device)

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Seed the draws of a fresh request."""
        super().begin(n_sequences, max_new_tokens, seed)
        self.generator.manual_seed(seed)

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        probabilities = torch.softmax(logits.float() / self.temperature, dim=-1)
        return torch.multinomial(probabilities, 1, generator=self.generator)


def check_cell(cell: Cell) -> None:
    """Refuse decoding settings that are none.

    Raises
    ------
    ConfigError
    """
    if not 0 <= cell.temperature < math.inf:
        raise ConfigError(f"decoding.temperature={cell.temperature}: use 0 for greedy decoding, or above 0.")


def make_decoder(cell: Cell, device: torch.device, eos_ids: frozenset[int]) -> Decoder:
    """Return the decoder that a cell describes."""
    if cell.temperature == 0:
        return Greedy(eos_ids)
    return Sampler(cell.temperature, device, eos_ids)
