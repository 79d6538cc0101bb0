"""Prompt files: JSONL, CSV or plain text, read into prompts. A complaint names the file and the line."""

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from llmlat.config import PromptSetConfig
from llmlat.errors import ConfigError
from llmlat.files import DamagedError, open_regular, parse_json
from llmlat.measure.models.tokenizers import Message

_LONGEST_FIELD = 2**31 - 1


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
    """Read the prompts of a set from its JSONL, CSV or text file, no further than its limit.

    Raises
    ------
    ConfigError
        Where the file is missing, unreadable or empty; the message names the line.
    """
    path = prompt_set.path
    readers = {".jsonl": _from_jsonl, ".csv": _from_csv, ".txt": _from_lines}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise ConfigError(f"prompt_set.path={path}: use a .jsonl, .csv or .txt file.")
    limit = None if prompt_set.limit is None else min(prompt_set.limit, sys.maxsize)
    prompts: dict[str, Prompt] = {}
    with _opened(prompt_set) as file:
        for prompt in islice(readers[suffix](file, path), limit):
            if prompt.prompt_id in prompts:
                raise ConfigError(
                    f"prompt_set.path={path}: the id {prompt.prompt_id!r} is used twice; ids must differ."
                )
            prompts[prompt.prompt_id] = prompt
    if not prompts:
        raise ConfigError(f"prompt_set.path={path}: the file holds no prompts; write at least one.")
    return list(prompts.values())


def read_text(prompt_set: PromptSetConfig) -> str:
    """Read the file of a prompt set.

    Raises
    ------
    ConfigError
        Where it is missing, unreadable or not UTF-8.
    """
    with _opened(prompt_set) as file:
        return file.read()


@contextmanager
def _opened(prompt_set: PromptSetConfig) -> Iterator[TextIO]:
    """Open the file of a prompt set as text; what goes wrong while it is read is said in a line."""
    try:
        with TextIOWrapper(open_regular(Path(prompt_set.path)), "utf-8-sig") as file:
            yield file
    except (OSError, ValueError) as error:
        said = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ConfigError(
            f"prompt_set.path={prompt_set.path}: cannot read the file "
            f"({getattr(error, 'strerror', None) or said}); "
            f"name a readable .jsonl, .csv or .txt file. Relative paths start at {Path.cwd()}."
        ) from error


def _from_jsonl(file: TextIO, path: str) -> Iterator[Prompt]:
    for number, line in _lines(file):
        if line.strip():
            try:
                entry = parse_json(line)
            except DamagedError as error:
                raise ConfigError(
                    f"prompt_set.path={path}: line {number} is not JSON ({error}); write one object a line."
                ) from error
            yield _from_entry(entry, number, path)


def _from_csv(file: TextIO, path: str) -> Iterator[Prompt]:
    csv.field_size_limit(_LONGEST_FIELD)  # a prompt may be a whole document
    reader = csv.DictReader(file, strict=True)
    try:
        if "prompt" not in (reader.fieldnames or []):
            raise ConfigError(
                f"prompt_set.path={path}: the CSV has no column `prompt`; name one so in its first line."
            )
        for entry in reader:
            told = {name: value for name, value in entry.items() if value not in (None, "")}
            yield _from_entry(told, reader.line_num, path)
    except csv.Error as error:
        raise ConfigError(
            f"prompt_set.path={path}: line {reader.line_num} is not CSV ({error}); "
            "quote the prompts that hold commas, quotes or line breaks."
        ) from error


def _from_lines(file: TextIO, path: str) -> Iterator[Prompt]:
    return (_from_entry({"prompt": line}, number, path) for number, line in _lines(file) if line.strip())


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file without their ends, numbered from 1."""
    # Unlike with `str.splitlines`, a form feed or a U+2028 within a prompt ends no line.
    return ((number, line.rstrip("\r\n")) for number, line in enumerate(file, start=1))


def _from_entry(entry: Any, number: int, path: str) -> Prompt:
    where = f"prompt_set.path={path}: line {number}"
    if not isinstance(entry, dict) or not (entry.get("prompt") or entry.get("messages")):
        raise ConfigError(f"{where} has neither `prompt` nor `messages`; give it one of them.")
    messages = entry.get("messages") or [{"role": "user", "content": entry["prompt"]}]
    well_formed = isinstance(messages, list) and all(
        isinstance(m, dict)
        and isinstance(m.get("role"), str)
        and m["role"] in {"system", "user", "assistant"}
        and isinstance(m.get("content"), str)
        for m in messages
    )
    if not well_formed or messages[-1]["role"] != "user":
        raise ConfigError(
            f"{where}: `prompt` must be text, or `messages` a list of role (system, user, assistant) and "
            "content, ending with the user's."
        )
    if not _is_text(str(entry.get("id")), *(m["content"] for m in messages)):
        raise ConfigError(
            f"{where} holds half of a surrogate pair (\\ud800 to \\udfff alone), which is no text; "
            "write it whole."
        )
    return Prompt(
        prompt_id=f"line-{number}" if entry.get("id") is None else str(entry["id"]),
        messages=tuple({"role": m["role"], "content": m["content"]} for m in messages),
        max_new_tokens=_positive_int(entry.get("max_new_tokens"), f"{where}: max_new_tokens"),
    )


def _is_text(*texts: str) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


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
