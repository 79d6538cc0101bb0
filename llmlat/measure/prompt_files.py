"""Prompt files: JSONL, CSV or plain text, read into prompts. A complaint names the file and the line."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlat.config import PromptSetConfig
from llmlat.errors import ConfigError
from llmlat.measure.models.tokenizers import Message


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


def load_prompts(prompt_set: PromptSetConfig) -> list[Prompt]:
    """Read the prompts of a set from its JSONL, CSV or text file.

    Raises
    ------
    ConfigError
        Where the file is missing, unreadable or empty; the message names the line.
    """
    text = read_text(prompt_set)
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


def read_text(prompt_set: PromptSetConfig) -> str:
    """Read the file of a prompt set.

    Raises
    ------
    ConfigError
        Where it is missing, unreadable or not UTF-8.
    """
    try:
        return Path(prompt_set.path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: cannot read the file ({reason}); "
            f"name a readable .jsonl, .csv or .txt file. Relative paths start at {Path.cwd()}."
        ) from error


def _from_jsonl(text: str, path: str) -> list[Prompt]:
    prompts = []
    for number, line in _lines(text):
        if line.strip():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(
                    f"prompt_set.path={path}: line {number} is not JSON ({error.msg}); "
                    "write one object a line."
                ) from error
            prompts.append(_from_entry(entry, number, path))
    return prompts


def _from_csv(text: str, path: str) -> list[Prompt]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a prompt may be a whole document
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "prompt" not in (reader.fieldnames or []):
            raise ConfigError(
                f"prompt_set.path={path}: the CSV has no column `prompt`; name one so in its first line."
            )
        return [
            _from_entry({k: v for k, v in entry.items() if v not in (None, "")}, reader.line_num, path)
            for entry in reader
        ]
    except csv.Error as error:
        raise ConfigError(
            f"prompt_set.path={path}: line {reader.line_num} is not CSV ({error}); "
            "quote the prompts that hold commas, quotes or line breaks."
        ) from error


def _from_lines(text: str, path: str) -> list[Prompt]:
    return [_from_entry({"prompt": line}, number, path) for number, line in _lines(text) if line.strip()]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Split text into lines, numbered from 1."""
    # Unlike with `str.splitlines`, a form feed or a U+2028 within a prompt ends no line.
    return enumerate(text.split("\n"), start=1)


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
            f"{where}: `prompt` must be text, or `messages` a list of role (system, user, assistant) and "
            "content, ending with the user's."
        )
    return Prompt(
        prompt_id=f"line-{number}" if entry.get("id") is None else str(entry["id"]),
        messages=tuple({"role": m["role"], "content": m["content"]} for m in messages),
        max_new_tokens=_positive_int(entry.get("max_new_tokens"), f"{where}: max_new_tokens"),
    )


def _positive_int(value: Any, where: str) -> int | None:
    if value is None:
        return None
    try:
        number = int(str(value))  # through text, so that 2.5 is refused and not cut
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"{where} is {value!r}; use a whole number above 0.")
    return number
