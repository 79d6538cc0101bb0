"""An engine with a scripted clock: exact milliseconds without a model.

`FakeEngine` and `ScriptedTimer` stand where a model and a device would, so that a test of the collector, or
of anything behind it, can assert latencies to the nanosecond.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from llmlat.measure.decoding import Greedy
from llmlat.measure.engines import Decoder
from llmlat.measure.timers import StepTimes

_VOCABULARY = 16


@dataclass
class FakeState:
    """A request under way: how long its longest prompt is, and how many steps it has taken."""

    rows: int
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


class ScriptedDecoder(Greedy):
    """Generates scripted tokens, whatever the logits.

    Parameters
    ----------
    token_id : callable or int, default=7
        The id of every token, or a function that maps (sequence_index, token_index) to it.
    eos_ids : collection of int, optional
        Tokens that end a sequence.
    """

    def __init__(self, token_id: Callable[[int, int], int] | int = 7, eos_ids: Collection[int] = ()) -> None:
        super().__init__(eos_ids)
        self.token_id = token_id
        self._generated = 0

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Go back to the script's beginning."""
        super().begin(n_sequences, max_new_tokens, seed)
        self._generated = 0

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        step, self._generated = self._generated, self._generated + 1
        token_id = self.token_id
        if isinstance(token_id, int):
            return torch.full((len(logits), 1), token_id)
        return torch.tensor([[token_id(sequence, step)] for sequence in range(len(logits))])


class FakeEngine:
    """Generates tokens in a scripted time.

    Parameters
    ----------
    timer : ScriptedTimer
        The clock that steps move.
    latency_ms : callable
        Maps (prompt_tokens, token_index) to the step's latency in milliseconds; prompt_tokens is the longest
        prompt's. It may raise, to break a request off.
    decoder : Decoder, optional
        Chooses the tokens, from logits that are all alike; a `ScriptedDecoder` where there is none.
    """

    def __init__(
        self,
        timer: ScriptedTimer,
        latency_ms: Callable[[int, int], float],
        decoder: Decoder | None = None,
    ) -> None:
        self.timer = timer
        self.latency_ms = latency_ms
        self.decoder: Decoder = decoder or ScriptedDecoder()

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> FakeState:
        """Return the state of a fresh request."""
        return FakeState(len(prompts) * self.decoder.num_beams, max(map(len, prompts)))

    def prefill(self, state: FakeState) -> torch.Tensor:
        """Let the time of token 0 pass."""
        return self.decode_one_token(state)

    def decode_one_token(self, state: FakeState) -> torch.Tensor:
        """Let the next step's time pass."""
        self.timer.advance(self.latency_ms(state.prompt_tokens, state.generated))
        state.generated += 1
        ids, _ = self.decoder.choose(torch.zeros(state.rows, _VOCABULARY))
        return ids
