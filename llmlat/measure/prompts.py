"""Requests: prompts counted as the model is fed them, and planned in order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmlat.config import CollectConfig, PromptSetConfig
from llmlat.errors import ConfigError
from llmlat.measure.prompt_files import Prompt, load_prompts, read_text
from llmlat.measure.tokenizers import ChatFormatError, Tokenizer


@dataclass(frozen=True)
class Request:
    """One generation to measure: token ids in, `max_new_tokens` tokens out."""

    request_id: int
    prompt_id: str
    repetition: int
    token_ids: tuple[int, ...]
    max_new_tokens: int


def plan_requests(
    prompt_set: PromptSetConfig, collect: CollectConfig, tokenizer: Tokenizer, max_context: int
) -> list[Request]:
    """Turn a prompt set into the requests to measure, in order.

    Parameters
    ----------
    prompt_set : PromptSetConfig
    collect : CollectConfig
        Says how often each prompt is repeated. Repetitions are passes over the whole set, so that drift does
        not fall on one prompt.
    tokenizer : Tokenizer
    max_context : int
        The model's longest sequence, in tokens.

    Raises
    ------
    ConfigError
        For an unreadable or empty prompt set, or a prompt that does not fit.
    """
    _check_counts(prompt_set, collect)
    if prompt_set.prompt_tokens:
        prompts = _cut_to_lengths(prompt_set, tokenizer)
    else:
        prompts = [(p, _encode(p, prompt_set, tokenizer)) for p in load_prompts(prompt_set)]
    prompts = prompts[: prompt_set.limit]
    single_pass = [_request(index, p, ids, prompt_set) for index, (p, ids) in enumerate(prompts)]
    for request in single_pass:
        _check_fits(request, prompt_set, max_context)
    n = len(single_pass)
    return [
        replace(request, request_id=repetition * n + request.request_id, repetition=repetition)
        for repetition in range(collect.repetitions)
        for request in single_pass
    ]


def _encode(prompt: Prompt, prompt_set: PromptSetConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode_chat(prompt.messages))
    except ChatFormatError as error:
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: the model's chat format refuses the prompt "
            f"{prompt.prompt_id!r} ({error}); rewrite its messages."
        ) from error


def _cut_to_lengths(
    prompt_set: PromptSetConfig, tokenizer: Tokenizer
) -> list[tuple[Prompt, tuple[int, ...]]]:
    """Cut one text to exact token counts, without a chat template."""
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


def _request(index: int, prompt: Prompt, ids: Sequence[int], prompt_set: PromptSetConfig) -> Request:
    max_new_tokens = prompt_set.max_new_tokens or prompt.max_new_tokens
    if max_new_tokens is None:
        raise ConfigError(
            f"prompt_set.max_new_tokens: not set, and the prompt {prompt.prompt_id!r} does not say how many "
            "tokens to generate; set prompt_set.max_new_tokens=32, say."
        )
    return Request(index, prompt.prompt_id, 0, tuple(ids), max_new_tokens)


def _check_counts(prompt_set: PromptSetConfig, collect: CollectConfig) -> None:
    at_least = {
        "prompt_set.max_new_tokens": (prompt_set.max_new_tokens, 1),
        "prompt_set.limit": (prompt_set.limit, 1),
        "collect.repetitions": (collect.repetitions, 1),
        "collect.warmup": (collect.warmup, 0),
    }
    for key, (value, least) in at_least.items():
        if value is not None and value < least:
            raise ConfigError(f"{key}={value}: use a whole number of at least {least}.")


def _check_fits(request: Request, prompt_set: PromptSetConfig, max_context: int) -> None:
    needed = len(request.token_ids) + request.max_new_tokens
    if needed > max_context:
        raise ConfigError(
            f"prompt_set={prompt_set.name}: the prompt {request.prompt_id!r} has {len(request.token_ids):,} "
            f"tokens and generates {request.max_new_tokens:,}, but the model's context ends at "
            f"{max_context:,}; shorten it, or lower prompt_set.max_new_tokens."
        )
