"""How the next token is chosen from the logits. It runs inside the timed step, as it does when serving."""

import math

import torch

from llmlat.config import DecodingConfig
from llmlat.errors import ConfigError
from llmlat.measure.engines import Chooser


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token: logits of shape (batch, vocabulary) to ids of shape (batch, 1)."""
    return logits.argmax(dim=-1, keepdim=True)


class Sampler:
    """Draws from the softmax of logits over a temperature, repeatably.

    Parameters
    ----------
    temperature : float
        Divides the logits; above 0.
    seed : int
        Seeds the draws.
    device : torch.device
        Where the logits are.
    """

    def __init__(self, temperature: float, seed: int, device: torch.device) -> None:
        self.temperature = temperature
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw ids of shape (batch, 1)."""
        probabilities = torch.softmax(logits.float() / self.temperature, dim=-1)
        return torch.multinomial(probabilities, 1, generator=self.generator)


def check_temperature(config: DecodingConfig) -> None:
    """Refuse a temperature that is none.

    Raises
    ------
    ConfigError
        Where it is negative, infinite or not a number.
    """
    if not 0 <= config.temperature < math.inf:
        raise ConfigError(
            f"decoding.temperature={config.temperature}: use 0 for greedy decoding, or above 0."
        )


def make_chooser(config: DecodingConfig, seed: int, device: torch.device) -> Chooser:
    """Return the chooser that a decoding config describes.

    Raises
    ------
    ConfigError
        For a temperature that is none.
    """
    check_temperature(config)
    if config.temperature == 0:
        return greedy
    return Sampler(config.temperature, seed, device)
