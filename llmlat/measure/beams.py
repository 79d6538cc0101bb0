"""Beam search, step by step: the same sequences as `generate(num_beams=...)` of transformers.

Every sequence has `num_beams` rows in the model's batch, from the prompt on. A step extends each of them by
every token of the vocabulary and keeps the likeliest continuations; rows change places by that, and the
engine's cache with them. What was kept is noted as an index, so a step's own work does not grow with the
sequence; the sequences are put together after the request.
"""

from collections.abc import Collection, Sequence

import torch

from llmlat.measure.engines import Choice

# transformers' stand-in for minus infinity: adding to it stays finite.
_NEVER = -1e9


class Beams:
    """Follows the likeliest continuations side by side.

    Parameters
    ----------
    num_beams : int
        How many are followed for each sequence.
    length_penalty : float, default=1.0
        A sequence's log-probability is divided by its length to this power; above 0 favours longer ones.
    eos_ids : collection of int, optional
        Tokens that end a sequence; empty to go on to the last step. A search is over when no beam can do
        better than the worst of `num_beams` ended sequences any more.
    device : torch.device or str, default="cpu"
        Where the logits are.
    """

    def __init__(
        self,
        num_beams: int,
        length_penalty: float = 1.0,
        eos_ids: Collection[int] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_beams = num_beams
        self.length_penalty = length_penalty
        self.device = device
        self._eos = torch.tensor(list(eos_ids), device=device) if eos_ids else None
        # So many that `num_beams` are left to go on with where each beam's likeliest continuations are ends.
        self._n_candidates = max(2, 1 + len(eos_ids)) * num_beams

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Start each search from its first beam alone: all its beams hold the same prompt."""
        shape = (n_sequences, self.num_beams)
        self._scores = torch.full(shape, _NEVER, device=self.device)
        self._scores[:, 0] = 0
        self._first_rows = torch.arange(n_sequences, device=self.device)[:, None] * self.num_beams
        # A continuation's index is its beam × the vocabulary's size + its token.
        self._kept: list[torch.Tensor] = []
        self._vocabulary = 1
        # Sequences that ended, best first: their scores, and step × beams × vocabulary + index, or -1.
        self._ended_scores = torch.full(shape, _NEVER, device=self.device)
        self._ended = torch.full(shape, -1, device=self.device)
        self._may_improve = torch.ones((n_sequences, 1), dtype=torch.bool, device=self.device)

    def choose(self, logits: torch.Tensor) -> Choice:
        """Return the ids of shape (rows, 1) that are fed next, and the row that each of them continues."""
        self._vocabulary = logits.shape[-1]
        log_probabilities = torch.log_softmax(logits.float(), dim=-1).reshape(*self._scores.shape, -1)
        totals = (log_probabilities + self._scores[:, :, None]).flatten(1)
        scores, indices = totals.topk(self._n_candidates)
        if self._eos is None:
            scores, indices = scores[:, : self.num_beams], indices[:, : self.num_beams]
        else:
            scores, indices = self._going_on(scores, indices, self._eos)
        self._scores = scores
        self._kept.append(indices)
        source = self._first_rows + indices // self._vocabulary
        return (indices % self._vocabulary).view(-1, 1), source.view(-1)

    def _going_on(
        self, scores: torch.Tensor, indices: torch.Tensor, eos: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Set the continuations that end aside, and return scores and indices of the best others."""
        is_end = torch.isin(indices % self._vocabulary, eos)
        self._set_aside(scores, indices, is_end)
        scores, order = scores.masked_fill(is_end, _NEVER).topk(self.num_beams)
        best_possible = scores[:, :1] / self._length_factor(len(self._kept) + 1)
        worst_ended = self._ended_scores[:, -1:].masked_fill(self._ended[:, -1:] < 0, _NEVER)
        self._may_improve = self._may_improve & (best_possible > worst_ended)
        return scores, indices.gather(1, order)

    def _set_aside(self, scores: torch.Tensor, indices: torch.Tensor, is_end: torch.Tensor) -> None:
        """Merge what ended in this step with what ended before."""
        # Only the likeliest `num_beams` count; the other candidates are there to go on with.
        ends = is_end[:, : self.num_beams] & self._may_improve
        ended = len(self._kept) * self.num_beams * self._vocabulary + indices[:, : self.num_beams]
        normalised = scores[:, : self.num_beams] / self._length_factor(len(self._kept) + 1)
        all_scores = torch.cat([self._ended_scores, normalised.masked_fill(~ends, _NEVER)], dim=1)
        all_ended = torch.cat([self._ended, ended.masked_fill(~ends, -1)], dim=1)
        self._ended_scores, order = all_scores.topk(self.num_beams)
        self._ended = all_ended.gather(1, order)

    def _length_factor(self, n_tokens: int) -> float:
        return float(n_tokens**self.length_penalty)

    def is_finished(self) -> bool:
        """Whether no search can find a better sequence."""
        return self._eos is not None and not bool(self._may_improve.any())

    def tokens(self, steps: Sequence[torch.Tensor]) -> list[list[int | None]]:
        """Return the best sequence of each search, and None for each step that went on beyond its end."""
        if not steps:
            return []
        kept = torch.stack(self._kept).tolist()
        found = [self._traced(kept, place, best) for place, best in enumerate(self._best())]
        return [(sequence + [None] * len(steps))[: len(steps)] for sequence in found]

    def _best(self) -> list[int]:
        """Return where each search's best sequence ends: the best that ended, or a better one under way."""
        n_steps = len(self._kept)
        under_way = self._scores[:, 0] / self._length_factor(n_steps)
        is_better = self._may_improve[:, 0] & (under_way > self._ended_scores[:, 0])
        last = (n_steps - 1) * self.num_beams * self._vocabulary + self._kept[-1][:, 0]
        best: list[int] = torch.where(is_better | (self._ended[:, 0] < 0), last, self._ended[:, 0]).tolist()
        return best

    def _traced(self, kept: list[list[list[int]]], sequence: int, end: int) -> list[int | None]:
        """Follow a sequence from its end back to its first token."""
        step, index = divmod(end, self.num_beams * self._vocabulary)
        tokens: list[int | None] = []
        while True:
            beam, token = divmod(index, self._vocabulary)
            tokens.append(token)
            if step == 0:
                return tokens[::-1]
            step -= 1
            index = kept[step][sequence][beam]
