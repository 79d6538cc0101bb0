"""The columns of a token row: the glossary of the project, in code.

One row is one generated token. Both halves meet here: the measuring half fills these columns, the predicting
half reads them, and neither knows the other.
"""

from dataclasses import dataclass

import pyarrow as pa

# Part of a dataset's key: rows of other columns, or of other meanings, are another measurement.
ROWS_VERSION = 1

PREFILL = "prefill"
DECODE = "decode"


@dataclass(frozen=True)
class Column:
    """One column of a token row.

    Attributes
    ----------
    name : str
        The column's name; a physical number ends in its unit.
    dtype : pyarrow.DataType
        How it is stored.
    unit : str
        Its unit, or an empty string.
    meaning : str
        What it says, in one sentence.
    nullable : bool
        Whether a row may leave it empty.
    known_before_step : bool
        Whether its value is known before the step begins, so that it may be a feature.
    """

    name: str
    dtype: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False
    known_before_step: bool = True


COLUMNS: tuple[Column, ...] = (
    Column("request_id", pa.int32(), "", "Index of the request in the order of measuring; warm-up is -1."),
    Column("prompt_id", pa.string(), "", "The prompt's name in its prompt set."),
    Column("repetition", pa.int32(), "", "Which repetition of the prompt this is, from 0."),
    Column("session_id", pa.int32(), "", "Which process measured it: 0, and one more for each resume."),
    Column(
        "session_request",
        pa.int32(),
        "requests",
        "Requests that this process had measured before this one; 0 is the first after loading the model.",
    ),
    Column(
        "is_warmup", pa.bool_(), "", "Whether the protocol generated this token to warm up, not to count."
    ),
    Column(
        "token_index", pa.int32(), "tokens", "Index of the generated token; token 0 comes out of prefill."
    ),
    Column("phase", pa.string(), "", "prefill for token 0, decode for the others."),
    Column("prompt_tokens", pa.int32(), "tokens", "Tokens in the prompt, as the model is fed them."),
    Column(
        "context_length",
        pa.int32(),
        "tokens",
        "Tokens the step attends to: prompt_tokens + token_index.",
    ),
    Column(
        "first_visit",
        pa.bool_(),
        "",
        "Whether this process ran this phase at this context length for the first time: libraries that plan "
        "or tune per shape pay for it once.",
    ),
    Column("token_id", pa.int32(), "", "The generated token's id.", known_before_step=False),
    Column(
        "token_latency_ms",
        pa.float64(),
        "ms",
        "Wall time from the previous token's completion (or the request's start) to this one's, "
        "synchronised.",
        known_before_step=False,
    ),
    Column(
        "device_latency_ms",
        pa.float64(),
        "ms",
        "The same step between device events; empty where there is no device.",
        nullable=True,
        known_before_step=False,
    ),
    Column(
        "completed_at_ns",
        pa.int64(),
        "ns",
        "When the token was complete, in nanoseconds since 1970 on the monotonic clock of its session.",
        known_before_step=False,
    ),
)

SCHEMA = pa.schema([pa.field(c.name, c.dtype, nullable=c.nullable) for c in COLUMNS])
COLUMN = {column.name: column for column in COLUMNS}
TARGET = "token_latency_ms"
