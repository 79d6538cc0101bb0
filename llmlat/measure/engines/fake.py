"""An engine with a scripted clock: exact milliseconds without a model.

`FakeEngine` and `ScriptedTimer` stand where a model and a device would, so that a test of the collector, or
of anything behind it, can assert latencies to the nanosecond.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llmlat.measure.timers import StepTimes


@dataclass
class FakeState:
    """A request under way: how long its longest prompt is, and how many steps it has taken."""

    n_sequences: int
    prompt_tokens: int
    generated: int = 0


class ScriptedTimer:
    """A clock that moves only when it is told to.

    Attributes
    ----------
    now_ns : int
        The time, in nanoseconds.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self._marks: list[int] = []

    def advance(self, ms: float) -> None:
        """Let time pass."""
        self.now_ns += round(ms * 1e6)

    def reset(self, n_steps: int) -> None:
        """Forget earlier marks."""
        self._marks = []

    def mark(self) -> None:
        """Note the time."""
        self._marks.append(self.now_ns)

    def read(self) -> StepTimes:
        """Return the marks since the last reset."""
        marks = np.array(self._marks, dtype=np.int64)
        return StepTimes(marks, np.full(max(len(marks) - 1, 0), np.nan))


class FakeEngine:
    """Generates tokens in a scripted time.

    Parameters
    ----------
    timer : ScriptedTimer
        The clock that steps move.
    latency_ms : callable
        Maps (prompt_tokens, token_index) to the step's latency in milliseconds. It may raise, to break a
        request off.
    token_id : int, default=7
        The id of every generated token.
    """

    def __init__(
        self, timer: ScriptedTimer, latency_ms: Callable[[int, int], float], token_id: int = 7
    ) -> None:
        self.timer = timer
        self.latency_ms = latency_ms
        self.token_id = token_id

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> FakeState:
        """Return the state of a fresh request."""
        return FakeState(len(prompts), max(map(len, prompts)))

    def prefill(self, state: FakeState) -> torch.Tensor:
        """Let the time of token 0 pass."""
        return self.decode_one_token(state)

    def decode_one_token(self, state: FakeState) -> torch.Tensor:
        """Let the next step's time pass."""
        self.timer.advance(self.latency_ms(state.prompt_tokens, state.generated))
        state.generated += 1
        return torch.full((state.n_sequences, 1), self.token_id)
