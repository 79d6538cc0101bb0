"""What an exchange says: how many tokens came with each arrival, how that is known, and whether it is whole.

A chunk is not a token. How many tokens an event carries is known, in this order,

1. from the server's running count, where one comes with every arrival's last text: in `usage` (vLLM's and
   SGLang's `stream_options.continuous_usage_stats`) or in `timings` (llama.cpp's `timings_per_token`);
2. from the tokens that it lists, where every event with text does (`token_ids`, or `logprobs`);
3. from the final count, where it equals the number of events with text: then each carried one. A request that
   ended by itself may count one more, its end-of-sequence token, which has no text and is no row.

Otherwise it is not known, and each event with text is taken for one token and marked. Events without text
(the assistant's role at the beginning, the reason at the end, the usage) are tokens only where the server
says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llmlat.measure.endpoint.exchange import Exchange
from llmlat.measure.endpoint.sse import events

DONE = b"[DONE]"
MOST_SAID = 300
MOST_TOKENS = 2**24  # a count beyond it is none
# Where servers put what they generate: text, thoughts, calls of tools.
_TEXTS = ("content", "reasoning_content", "reasoning", "text")

Json = Mapping[str, Any]


class Counted(StrEnum):
    """How it is known which chunk brought how many tokens."""

    running = "running"
    listed = "listed"
    final = "final"
    unknown = "unknown"


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes
    ----------
    arrivals : list of int
        The arrivals that brought tokens.
    n_tokens : list of int
        How many each of them brought.
    counted_by : Counted
        How the server tells how many; where it does not, each event with text counts as one.
    token_ids : list of int or None
        The tokens, where the server tells them all.
    prompt_tokens, cached_prompt_tokens : int or None
        Tokens of the prompt, and those of them that were computed before, where the server tells.
    is_whole : bool
        Whether the server said that its answer was complete.
    n_malformed : int
        Events that could not be read.
    error : str
        What the server said instead of an answer, or why the stream ended.
    """

    arrivals: list[int]
    n_tokens: list[int]
    counted_by: Counted
    token_ids: list[int] | None
    prompt_tokens: int | None
    cached_prompt_tokens: int | None
    is_whole: bool
    n_malformed: int
    error: str

    @property
    def is_counted(self) -> bool:
        """Whether it is known how many tokens came with each arrival."""
        return self.counted_by is not Counted.unknown


@dataclass
class _Read:
    """The events of an answer, read one by one."""

    pieces: list["_Piece"] = field(default_factory=list)
    usage: Json = field(default_factory=dict)
    finish_reason: str | None = None
    tells_reasons: bool = False
    is_done: bool = False
    n_malformed: int = 0
    error: str = ""


@dataclass(frozen=True)
class _Piece:
    """An event that may carry tokens."""

    arrival: int
    has_text: bool
    completion_tokens: int | None
    token_ids: list[int] | None
    n_listed: int | None


def read_answer(exchange: Exchange) -> Answer:
    """Read what came of a request."""
    read = _read(exchange)
    counts, counted_by = _count(read)
    by_arrival: dict[int, int] = {}
    for piece, n in zip(read.pieces, counts, strict=True):
        if n:
            by_arrival[piece.arrival] = by_arrival.get(piece.arrival, 0) + n
    ids = [token for piece in read.pieces for token in piece.token_ids or ()]
    # llama-cpp-python is done, and gives no reason, where it breaks a request off for another one.
    is_whole = read.finish_reason is not None or (read.is_done and not read.tells_reasons)
    return Answer(
        list(by_arrival),
        list(by_arrival.values()),
        counted_by,
        ids if ids and len(ids) == sum(counts) else None,
        _whole_number(read.usage.get("prompt_tokens")),
        _whole_number(_object(read.usage.get("prompt_tokens_details")).get("cached_tokens")),
        is_whole and not read.error,
        read.n_malformed,
        read.error or exchange.error or ("" if is_whole else "it ended without a finish_reason"),
    )


def refusal(exchange: Exchange) -> str:
    """Return what a server says that does not answer, in one line."""
    said = " ".join(_message(exchange.body).split()).rstrip(". ")
    return f"{exchange.error}: {said[:MOST_SAID]}" if said else exchange.error


def _read(exchange: Exchange) -> _Read:
    read = _Read()
    for arrival, data in events(exchange.body, exchange.arrival_end):
        if data.strip() == DONE:
            read.is_done = True
            continue
        try:
            event = json.loads(data)
            if not isinstance(event, dict):
                raise ValueError("no object")
            _take(event, arrival, read)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            read.n_malformed += 1
    return read


def _take(event: Json, arrival: int, read: _Read) -> None:
    if event.get("error"):
        read.error = " ".join(_message_in(event).split())[:MOST_SAID] or "the server reports an error"
        return
    usage = _object(event.get("usage"))
    _object(usage.get("prompt_tokens_details"))
    read.usage = usage or read.usage
    choices = event.get("choices") or [{}]
    choice = choices[0]
    read.tells_reasons |= "finish_reason" in choice
    read.finish_reason = choice.get("finish_reason") or read.finish_reason
    ids = choice.get("token_ids")
    read.pieces.append(
        _Piece(
            arrival,
            _has_text(choice),
            _running_count(event, usage),
            [_token_id(token) for token in ids] if ids is not None else None,
            len(ids) if ids is not None else _n_logprobs(choice),
        )
    )


def _running_count(event: Json, usage: Json) -> int | None:
    """Return how many tokens the server has generated so far, where an event says it."""
    count = _whole_number(usage.get("completion_tokens"))
    return _whole_number(_object(event.get("timings")).get("predicted_n")) if count is None else count


def _has_text(choice: Json) -> bool:
    delta = choice.get("delta") or choice
    return any(delta.get(name) for name in _TEXTS) or bool(delta.get("tool_calls"))


def _n_logprobs(choice: Json) -> int | None:
    logprobs = choice.get("logprobs") or {}
    listed = logprobs.get("content", logprobs.get("tokens"))
    return len(listed) if listed is not None else None


def _count(read: _Read) -> tuple[list[int], Counted]:
    """Return how many tokens each piece carries, and how that is known."""
    texts = [piece for piece in read.pieces if piece.has_text]
    # llama.cpp counts once for a token that ends a thought and begins the answer: two events of one arrival.
    last_texts = {piece.arrival: piece for piece in texts}.values()
    if texts and all(piece.completion_tokens is not None for piece in last_texts):
        return _increments(read.pieces), Counted.running
    if texts and all(piece.n_listed is not None for piece in texts):
        return [piece.n_listed or 0 for piece in read.pieces], Counted.listed
    ones = [int(piece.has_text) for piece in read.pieces]
    beyond = (_whole_number(read.usage.get("completion_tokens")) or 0) - sum(ones)
    is_counted = beyond == 0 or (beyond == 1 and read.finish_reason == "stop")
    return ones, Counted.final if is_counted else Counted.unknown


def _increments(pieces: list[_Piece]) -> list[int]:
    """Return by how much the server's running count grew with each piece."""
    counts, before = [], 0
    for piece in pieces:
        now = max(piece.completion_tokens or 0, before)
        counts.append(now - before)
        before = now
    return counts


def _token_id(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise TypeError
    return value


def _object(value: Any) -> Json:
    """Return an object of the answer, empty where it is not there.

    Raises
    ------
    TypeError
        Where something else is in its place.
    """
    if value is not None and not isinstance(value, dict):
        raise TypeError
    return value or {}


def _whole_number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _message(body: bytes) -> str:
    try:
        return _message_in(json.loads(body))
    except (ValueError, AttributeError):
        return body.decode(errors="replace")


def _message_in(said: Any) -> str:
    """Return the sentence in an error, wherever this server puts it."""
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            return _message_in(said[name])
    return said if isinstance(said, str) else json.dumps(said)
