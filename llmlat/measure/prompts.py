"""Prompts: read from a file, counted as the model is fed them, and planned into requests."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmlat.config import CollectConfig, PromptSetConfig
from llmlat.errors import ConfigError
from llmlat.measure.tokenizers import Message, Tokenizer


@dataclass(frozen=True)
class Prompt:
    """One prompt of a prompt set.

    Attributes
    ----------
    prompt_id : str
        Its name, unique within the set.
    messages : tuple of mapping
        Chat messages, each with `role` and `content`; the last is the user's.
    max_new_tokens : int or None
        How many tokens it generates, where the set does not say.
    """

    prompt_id: str
    messages: tuple[Message, ...]
    max_new_tokens: int | None = None


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
        prompts = [(p, tuple(tokenizer.encode_chat(p.messages))) for p in load_prompts(prompt_set)]
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


def load_prompts(prompt_set: PromptSetConfig) -> list[Prompt]:
    """Read the prompts of a set from its JSONL, CSV or text file.

    Raises
    ------
    ConfigError
        Where the file is missing, unreadable or empty; the message names the line.
    """
    text = _read_text(prompt_set)
    readers = {".jsonl": _from_jsonl, ".csv": _from_csv, ".txt": _from_lines}
    suffix = Path(prompt_set.path).suffix.lower()
    if suffix not in readers:
        raise ConfigError(f"prompt_set.path={prompt_set.path}: use a .jsonl, .csv or .txt file.")
    prompts = readers[suffix](text, prompt_set.path)
    if not prompts:
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: the file holds no prompts; write at least one."
        )
    ids = [prompt.prompt_id for prompt in prompts]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: the id {twice!r} is used twice; ids must differ."
        )
    return prompts


def _read_text(prompt_set: PromptSetConfig) -> str:
    try:
        return Path(prompt_set.path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: cannot read the file ({reason}); "
            f"name a readable .jsonl, .csv or .txt file. Relative paths start at {Path.cwd()}."
        ) from error


def _from_jsonl(text: str, path: str) -> list[Prompt]:
    prompts = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(
                    f"prompt_set.path={path}: line {number} is not JSON ({error.msg}); write one object a line."
                ) from error
            prompts.append(_from_entry(entry, number, path))
    return prompts


def _from_csv(text: str, path: str) -> list[Prompt]:
    reader = csv.DictReader(text.splitlines())
    if "prompt" not in (reader.fieldnames or []):
        raise ConfigError(
            f"prompt_set.path={path}: the CSV has no column `prompt`; name one so in its first line."
        )
    return [
        _from_entry({k: v for k, v in entry.items() if v not in (None, "")}, number, path)
        for number, entry in enumerate(reader, start=2)
    ]


def _from_lines(text: str, path: str) -> list[Prompt]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    return [_from_entry({"prompt": line}, number, path) for number, line in lines]


def _from_entry(entry: Any, number: int, path: str) -> Prompt:
    where = f"prompt_set.path={path}: line {number}"
    if not isinstance(entry, dict) or not (entry.get("prompt") or entry.get("messages")):
        raise ConfigError(f"{where} has neither `prompt` nor `messages`; give it one of them.")
    messages = entry.get("messages") or [{"role": "user", "content": entry["prompt"]}]
    well_formed = isinstance(messages, list) and all(
        isinstance(m, dict)
        and m.get("role") in {"system", "user", "assistant"}
        and isinstance(m.get("content"), str)
        for m in messages
    )
    if not well_formed or messages[-1]["role"] != "user":
        raise ConfigError(
            f"{where}: `messages` must be a list of role (system, user, assistant) and content, ending with the "
            "user's."
        )
    return Prompt(
        prompt_id=str(entry.get("id", f"line-{number}")),
        messages=tuple({"role": m["role"], "content": m["content"]} for m in messages),
        max_new_tokens=_positive_int(entry.get("max_new_tokens"), f"{where}: max_new_tokens"),
    )


def _positive_int(value: Any, where: str) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ConfigError(f"{where} is {value!r}; use a whole number above 0.")
    return number


def _cut_to_lengths(
    prompt_set: PromptSetConfig, tokenizer: Tokenizer
) -> list[tuple[Prompt, tuple[int, ...]]]:
    """Cut one text to exact token counts, without a chat template."""
    ids = tokenizer.encode_text(_read_text(prompt_set))
    lengths = prompt_set.prompt_tokens or []
    if min(lengths) < 1 or max(lengths) > len(ids):
        raise ConfigError(
            f"prompt_set.prompt_tokens={lengths}: {prompt_set.path} has {len(ids)} tokens; "
            "ask for lengths between 1 and that."
        )
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
            f"prompt_set={prompt_set.name}: the prompt {request.prompt_id!r} has {len(request.token_ids):,} tokens "
            f"and generates {request.max_new_tokens:,}, but the model's context ends at {max_context:,}; shorten it, "
            "or lower prompt_set.max_new_tokens."
        )
