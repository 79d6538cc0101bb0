"""Requests: prompts counted as the model is fed them, and planned in order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmlat.config import Batching, PromptSetConfig
from llmlat.errors import ConfigError
from llmlat.measure.cells import Cell
from llmlat.measure.models.tokenizers import ChatFormatError, Tokenizer
from llmlat.measure.prompt_files import Prompt, load_prompts, read_text

WARMUP_REQUEST_ID = -1
MOST_TOKENS = 1_000_000
"""Of one request: the times of all its steps are allocated before the first."""


@dataclass(frozen=True)
class Request:
    """One generation to measure: a batch of token ids in, `max_new_tokens` steps out.

    Attributes
    ----------
    request_id : int
    prompt_ids : tuple of str
        The prompts' names, one a sequence.
    repetition : int
    prompts : tuple of tuple of int
        The prompts as the model is fed them, one a sequence; empty ones where a server turns them into
        tokens.
    max_new_tokens : int
    cell : Cell
        How it is generated.
    """

    request_id: int
    prompt_ids: tuple[str, ...]
    repetition: int
    prompts: tuple[tuple[int, ...], ...]
    max_new_tokens: int
    cell: Cell

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, self.prompts))

    @property
    def name(self) -> str:
        """The prompts, as a person is told of them."""
        return ", ".join(dict.fromkeys(self.prompt_ids))

    @property
    def is_warm_up(self) -> bool:
        """Whether it is generated to warm up, and does not count."""
        return self.request_id == WARMUP_REQUEST_ID

    def as_warm_up(self, n_tokens: int) -> "Request":
        """Return a request that generates so many tokens from the same prompts, and does not count."""
        return replace(self, request_id=WARMUP_REQUEST_ID, repetition=0, max_new_tokens=n_tokens)

    def draw_seed(self, seed: int) -> int:
        """Return what seeds its draws under the seed of the run: a resumed request draws the same."""
        return int(np.random.SeedSequence([seed, self.request_id + 1]).generate_state(1)[0])

    def describe(self) -> dict[str, Any]:
        """Return what a record of it says where it was not measured: see `llmlat.dataset.Dataset.skipped`."""
        return {
            "request_id": self.request_id,
            "prompt_ids": list(dict.fromkeys(self.prompt_ids)),
            "engine": self.cell.engine,
            "batch_size": self.cell.batch_size,
            "num_beams": self.cell.num_beams,
            "prompt_tokens": self.prompt_tokens,
            "max_new_tokens": self.max_new_tokens,
        }


def plan_requests(
    prompt_set: PromptSetConfig,
    cells: Sequence[Cell],
    tokenizer: Tokenizer,
    max_context: int,
    vocabulary: int | None = None,
) -> list[Request]:
    """Turn a prompt set into one pass of requests: every batch of prompts in every cell, in order.

    Parameters
    ----------
    prompt_set : PromptSetConfig
    cells : sequence of Cell
    tokenizer : Tokenizer
    max_context : int
        The model's longest sequence, in tokens.
    vocabulary : int, optional
        How many tokens the model knows.

    Raises
    ------
    ConfigError
        For an unreadable or empty prompt set, or a prompt that does not fit.
    """
    check_counts(prompt_set)
    if prompt_set.prompt_tokens:
        prompts = cut_to_lengths(prompt_set, tokenizer)
    else:
        prompts = [(p, _encode(p, prompt_set, tokenizer)) for p in load_prompts(prompt_set)]
    fed = [_single(p, ids, prompt_set) for p, ids in prompts[: prompt_set.limit]]
    for prompt in fed:
        _check_tokens(prompt, prompt_set, vocabulary)
    batches = [(cell, batch) for cell in cells for batch in _batches(fed, cell)]
    requests = [_request(index, cell, batch) for index, (cell, batch) in enumerate(batches)]
    for request in requests:
        _check_fits(request, prompt_set, max_context)
    return requests


@dataclass(frozen=True)
class _Fed:
    """A prompt as the model is fed it."""

    prompt_id: str
    token_ids: tuple[int, ...]
    max_new_tokens: int


def _batches(fed: Sequence[_Fed], cell: Cell) -> list[list[_Fed]]:
    """Divide prompts into batches; the last ragged one is filled up from the set's beginning."""
    size = cell.batch_size
    if cell.batching is Batching.equal:
        return [[prompt] * size for prompt in fed]
    return [
        [fed[position % len(fed)] for position in range(start, start + size)]
        for start in range(0, len(fed), size)
    ]


def _request(index: int, cell: Cell, batch: Sequence[_Fed]) -> Request:
    return Request(
        index,
        tuple(prompt.prompt_id for prompt in batch),
        0,
        tuple(prompt.token_ids for prompt in batch),
        max(prompt.max_new_tokens for prompt in batch),
        cell,
    )


def _encode(prompt: Prompt, prompt_set: PromptSetConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode_chat(prompt.messages))
    except ChatFormatError as error:
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: the model's chat format refuses the prompt "
            f"{prompt.prompt_id!r} ({error}); rewrite its messages."
        ) from error


def cut_to_lengths(prompt_set: PromptSetConfig, tokenizer: Tokenizer) -> list[tuple[Prompt, tuple[int, ...]]]:
    """Cut one text to exact token counts, without a chat template.

    Raises
    ------
    ConfigError
        Where the text is shorter than a length, or a length is there twice.
    """
    ids = tokenizer.encode_text(read_text(prompt_set))
    lengths = prompt_set.prompt_tokens or []
    if min(lengths) < 1 or max(lengths) > len(ids):
        raise ConfigError(
            f"prompt_set.prompt_tokens={lengths}: {prompt_set.path} has {len(ids)} tokens; "
            "ask for lengths between 1 and that."
        )
    if len(set(lengths)) < len(lengths):
        raise ConfigError(f"prompt_set.prompt_tokens={lengths}: a length is there twice; they must differ.")
    return [(Prompt(f"{n}-tokens", ()), tuple(ids[:n])) for n in lengths]


def _single(prompt: Prompt, ids: Sequence[int], prompt_set: PromptSetConfig) -> _Fed:
    return _Fed(prompt.prompt_id, tuple(ids), tokens_to_generate(prompt, prompt_set))


def tokens_to_generate(prompt: Prompt, prompt_set: PromptSetConfig) -> int:
    """Return how many tokens a prompt generates: what the set says, or the prompt.

    Raises
    ------
    ConfigError
        Where neither does.
    """
    max_new_tokens = prompt_set.max_new_tokens or prompt.max_new_tokens
    if max_new_tokens is None:
        raise ConfigError(
            f"prompt_set.max_new_tokens: not set, and the prompt {prompt.prompt_id!r} does not say how many "
            "tokens to generate; set prompt_set.max_new_tokens=32, say."
        )
    if max_new_tokens > MOST_TOKENS:
        raise ConfigError(
            f"prompt_set.max_new_tokens: the prompt {prompt.prompt_id!r} is to generate {max_new_tokens} "
            f"tokens; use {MOST_TOKENS} at most."
        )
    return max_new_tokens


def check_counts(prompt_set: PromptSetConfig) -> None:
    """Refuse counts of a prompt set that are none.

    Raises
    ------
    ConfigError
    """
    at_least = {
        "prompt_set.max_new_tokens": prompt_set.max_new_tokens,
        "prompt_set.limit": prompt_set.limit,
    }
    for key, value in at_least.items():
        if value is not None and value < 1:
            raise ConfigError(f"{key}={value}: use a whole number of at least 1.")


def _check_tokens(prompt: _Fed, prompt_set: PromptSetConfig, vocabulary: int | None) -> None:
    """Refuse a prompt that a model cannot be fed: of no tokens, or of some that it does not know."""
    if not prompt.token_ids:
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: the prompt {prompt.prompt_id!r} is no tokens to the model's "
            "tokenizer; write something more into it, or leave it out."
        )
    if vocabulary is not None and (largest := max(prompt.token_ids)) >= vocabulary:
        raise ConfigError(
            f"model.tokenizer: the prompt {prompt.prompt_id!r} holds token {largest}, but the model knows "
            f"{vocabulary} of them, from 0; use the tokenizer that it was saved with (model.tokenizer=auto)."
        )


def _check_fits(request: Request, prompt_set: PromptSetConfig, max_context: int) -> None:
    needed = request.prompt_tokens + request.max_new_tokens
    if needed > max_context:
        raise ConfigError(
            f"prompt_set={prompt_set.name}: the prompt {request.name!r} has {request.prompt_tokens:,} "
            f"tokens and generates {request.max_new_tokens:,}, but the model's context ends at "
            f"{max_context:,}; shorten it, or lower prompt_set.max_new_tokens."
        )
