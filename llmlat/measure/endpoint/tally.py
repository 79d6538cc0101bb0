"""What a session's answers tell beside their tokens: how those were counted, and what was not as asked."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from llmlat.measure.endpoint.answers import Answer, Counted
from llmlat.measure.prompts import Request

UNCOUNTED = "uncounted_tokens"
"""A flag of what the server tells: measuring the request again would not take it away."""
# A template's beginning is shared by all prompts; beyond this, prompts themselves were remembered.
MOST_CACHED_SILENTLY = 0.5


@dataclass
class Tally:
    """Counts over the requests that were kept.

    Attributes
    ----------
    wants_whole_length : bool
        Whether every request is to generate as many tokens as it asks for.
    counted_by : Counter of Counted
        Requests, by how their tokens were counted.
    n_ended_early : int
        Requests that ended by themselves before the length that they asked for, and were to go on.
    prompt_tokens, cached_prompt_tokens : int
        Tokens of the prompts of which the server tells what it remembered, and those that it remembered.
    """

    wants_whole_length: bool
    counted_by: Counter[Counted] = field(default_factory=Counter)
    n_ended_early: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0

    @property
    def cached_prompt_fraction(self) -> float | None:
        """Share of the prompts' tokens that the server had computed before; None where it never tells."""
        return self.cached_prompt_tokens / self.prompt_tokens if self.prompt_tokens else None

    def add(self, request: Request, answer: Answer, prompt_tokens: int) -> None:
        """Count an answer that was kept."""
        self.counted_by[answer.counted_by] += 1
        ended = answer.is_whole and answer.is_counted and sum(answer.n_tokens) < request.max_new_tokens
        self.n_ended_early += self.wants_whole_length and ended
        if answer.cached_prompt_tokens is not None:
            self.prompt_tokens += prompt_tokens
            self.cached_prompt_tokens += answer.cached_prompt_tokens

    def describe(self) -> dict[str, Any]:
        """Return what provenance keeps."""
        return {
            "requests_counted_by": dict(self.counted_by),
            "requests_ended_early": self.n_ended_early,
            "cached_prompt_fraction": self.cached_prompt_fraction,
        }

    def warnings(self) -> list[str]:
        """Say what a person would not expect of the rows."""
        found, n = [], self.counted_by.total()
        if unknown := self.counted_by[Counted.unknown]:
            found.append(
                f"The server does not tell how many tokens each chunk brings: in {unknown} of {n} requests "
                f"each was taken for one, and their rows are flagged {UNCOUNTED}."
            )
        if self.n_ended_early:
            found.append(
                f"{self.n_ended_early} of {n} requests ended before prompt_set.max_new_tokens, though "
                "decoding.stop_at_eos=false: the server takes no ignore_eos, or its context is too short."
            )
        if (cached := self.cached_prompt_fraction or 0) > MOST_CACHED_SILENTLY:
            found.append(
                f"The server had computed {100 * cached:.0f} % of the prompts' tokens before "
                "(cached_prompt_tokens), so first tokens took next to no prefill; to measure it, turn the "
                "server's prefix cache off."
            )
        return found
