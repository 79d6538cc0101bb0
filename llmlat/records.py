"""The columns of a token row: the glossary of the project, in code.

One row is one generated token. Both halves meet here: the measuring half fills these columns, the predicting
half reads them, and neither knows the other.
"""

from dataclasses import dataclass

import pyarrow as pa

# Part of a dataset's key: rows of other columns, or of other meanings, are another measurement.
ROWS_VERSION = 3

PREFILL = "prefill"
DECODE = "decode"
PHASES = (PREFILL, DECODE)


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
    is_name : bool
        Whether it names a request or a place in the measurement, which says nothing of any other.
    default : str
        A formula for its value where a prediction is asked for and nothing is said of it; empty for none.
    """

    name: str
    dtype: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False
    known_before_step: bool = True
    is_name: bool = False
    default: str = ""

    @property
    def is_text(self) -> bool:
        """Whether its values are texts, and not numbers."""
        return bool(pa.types.is_string(self.dtype))


# Why a row is doubtful: the words that its `flags` are made of.
FLAGS = {
    "throttled": "the device held its clock back (power, heat or a hardware limit)",
    "slow_clock": "the device's clock was below collect.min_clock of its highest",
    "foreign_process": "another process computed on the device",
    "busy_cpu": "other processes kept more than half a core busy",
    "not_settled": "the warm-up reached its ceiling before the latency had settled",
    "suspended": "the process was stopped in the step, or the machine slept",
    "retried": "earlier attempts of the request failed",
    "cut_stream": "the server's stream ended before its answer was complete",
    "malformed_stream": "the server's stream held events that could not be read",
    "uncounted_tokens": "the server did not tell how many tokens its chunks carried: each was taken for one",
}
FLAG_SEPARATOR = ";"


def _telemetry(name: str, dtype: pa.DataType, unit: str, meaning: str) -> Column:
    return Column(name, dtype, unit, meaning, nullable=True)


TELEMETRY: tuple[Column, ...] = (
    _telemetry("gpu_utilization", pa.float64(), "fraction", "Share of time in which a kernel ran."),
    _telemetry(
        "gpu_memory_utilization",
        pa.float64(),
        "fraction",
        "Share of time in which device memory was accessed.",
    ),
    _telemetry(
        "dram_bandwidth_utilization",
        pa.float64(),
        "fraction",
        "Share of the device memory's bandwidth in use.",
    ),
    _telemetry("gpu_temperature_c", pa.float64(), "°C", "The GPU's temperature."),
    _telemetry("gpu_power_w", pa.float64(), "W", "The GPU's power draw at this moment."),
    _telemetry("sm_clock_mhz", pa.float64(), "MHz", "Clock of the GPU's multiprocessors."),
    _telemetry("memory_clock_mhz", pa.float64(), "MHz", "Clock of the GPU's memory."),
    _telemetry(
        "throttle_reasons",
        pa.int64(),
        "",
        "NVML's bit mask of why the GPU holds its clock; 0 where it does not.",
    ),
    _telemetry("gpu_memory_used_bytes", pa.int64(), "bytes", "Device memory in use, of all processes."),
    _telemetry("foreign_processes", pa.int32(), "processes", "Other processes with work on the GPU."),
    _telemetry("cpu_utilization", pa.float64(), "fraction", "Share of all cores that was busy."),
    _telemetry("other_cpu_cores", pa.float64(), "cores", "Cores kept busy by other processes than this one."),
    _telemetry("cpu_frequency_mhz", pa.float64(), "MHz", "Mean clock of the cores."),
    _telemetry("cpu_temperature_c", pa.float64(), "°C", "The processor's temperature, where it tells."),
    _telemetry("load_average", pa.float64(), "", "Processes running or waiting, over the last minute."),
)
"""The state of the machine, as last sampled strictly before the step began; empty where it is not known."""

SERVED: tuple[Column, ...] = (
    Column(
        "tokens_in_chunk",
        pa.int32(),
        "tokens",
        "Tokens that arrived from the server together; they share the latency. Empty where it did not tell.",
        nullable=True,
        known_before_step=False,
    ),
    Column(
        "requests_in_flight",
        pa.int32(),
        "requests",
        "Requests of this client that the server was answering when the step began, this one included.",
        nullable=True,
    ),
    Column(
        "queue_ms",
        pa.float64(),
        "ms",
        "From when the arrival pattern had the request sent to when it was: the client's own queue, "
        "connecting, and failed attempts. The server's queue is not in it, but in the first token's latency.",
        nullable=True,
    ),
    Column(
        "first_byte_ms",
        pa.float64(),
        "ms",
        "From when the request was sent to the first byte of the server's answer, its headers.",
        nullable=True,
        known_before_step=False,
    ),
    Column(
        "cached_prompt_tokens",
        pa.int32(),
        "tokens",
        "Tokens of the prompt that the server had computed before and did not compute again, where it tells.",
        nullable=True,
        known_before_step=False,
    ),
    Column(
        "attempt",
        pa.int32(),
        "",
        "Which attempt of the request the server answered, from 1.",
        nullable=True,
    ),
)
"""What a client sees of a server; empty where the engine runs in this process."""

COLUMNS: tuple[Column, ...] = (
    Column(
        "request_id",
        pa.int32(),
        "",
        "Index of the request in the order of measuring; warm-up is -1.",
        is_name=True,
    ),
    Column(
        "sequence_index",
        pa.int32(),
        "",
        "Which sequence of the request's batch this token belongs to, from 0. The tokens that a step "
        "generates side by side share its latency.",
        is_name=True,
    ),
    Column("prompt_id", pa.string(), "", "The prompt's name in its prompt set.", is_name=True),
    Column("repetition", pa.int32(), "", "Which repetition of the prompt this is, from 0.", is_name=True),
    Column("engine", pa.string(), "", "The engine's name."),
    Column("batch_size", pa.int32(), "sequences", "Sequences generated side by side."),
    Column("num_beams", pa.int32(), "beams", "Beams that each sequence is searched with; 1 is no search."),
    Column("temperature", pa.float64(), "", "What the logits are divided by; 0 takes the likeliest token."),
    Column(
        "top_k", pa.int32(), "tokens", "How many tokens may be drawn; empty where all may.", nullable=True
    ),
    Column(
        "top_p",
        pa.float64(),
        "",
        "The share of probability that may be drawn; empty where all may.",
        nullable=True,
    ),
    Column(
        "session_id",
        pa.int32(),
        "",
        "Which process measured it: 0, and one more for each resume.",
        is_name=True,
    ),
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
    Column(
        "phase",
        pa.string(),
        "",
        "prefill for token 0 (and what arrives from a server together with it), decode for the others.",
    ),
    Column("prompt_tokens", pa.int32(), "tokens", "Tokens in the prompt, as the model is fed them."),
    Column(
        "context_length",
        pa.int32(),
        "tokens",
        "Tokens of its own sequence that the step attends to: prompt_tokens + token_index.",
    ),
    Column(
        "padded_context_length",
        pa.int32(),
        "tokens",
        "Tokens that the batch's longest sequence attends to, to which the shorter ones are padded; empty "
        "where a server batches.",
        nullable=True,
        default="context_length",
    ),
    Column(
        "batch_context_tokens",
        pa.int64(),
        "tokens",
        "Tokens that the step attends to over all sequences and beams, padding left out; empty where a "
        "server batches.",
        nullable=True,
        default="batch_size * num_beams * context_length",
    ),
    Column(
        "first_visit",
        pa.bool_(),
        "",
        "Whether this process ran this phase at this (padded) context length, with this engine and batch, "
        "for the first time: libraries that plan or tune per shape pay for it once. Of a server, whether "
        "this process asked it for the first time.",
        default="0",
    ),
    Column(
        "token_id",
        pa.int32(),
        "",
        "The generated token's id; under beam search, of the best sequence found, and empty behind its end. "
        "Empty where a server does not tell.",
        nullable=True,
        known_before_step=False,
    ),
    Column(
        "token_latency_ms",
        pa.float64(),
        "ms",
        "Wall time from the previous token's completion (or the request's start) to this one's, "
        "synchronised; from a server, between arrivals of tokens, from when the request was sent.",
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
    *SERVED,
    *TELEMETRY,
    _telemetry(
        "telemetry_age_ms", pa.float64(), "ms", "How old that sample of the machine was when the step began."
    ),
    Column(
        "flags",
        pa.string(),
        "",
        f"Why the row is doubtful, joined by '{FLAG_SEPARATOR}'; an empty string where nothing was noticed.",
        known_before_step=False,
    ),
)

FACTS: tuple[Column, ...] = (
    Column("model", pa.string(), "", "The model's name."),
    Column("quantization", pa.string(), "", "How the weights of the linear layers are stored."),
    Column("n_parameters", pa.float64(), "", "The model's parameters.", nullable=True),
    Column("weight_bytes", pa.float64(), "bytes", "What the model's weights take in memory.", nullable=True),
    Column(
        "kv_bytes_per_token",
        pa.float64(),
        "bytes",
        "What a token's keys and values take, over all layers.",
        nullable=True,
    ),
    *(
        Column(name, pa.float64(), unit, meaning, nullable=True)
        for name, unit, meaning in (
            ("n_layers", "", "The model's layers."),
            ("hidden_size", "", "What a token is between layers."),
            ("n_heads", "", "Heads of attention."),
            ("n_kv_heads", "", "Heads of keys and values."),
            ("head_dim", "", "The size of a head."),
            ("feed_forward", "", "The inner size of a layer's feed-forward part."),
            ("vocabulary", "tokens", "Tokens that the model knows."),
            (
                "bytes_per_value",
                "bytes",
                "What a value of an activation, a key or a weight that is not quantised takes.",
            ),
        )
    ),
)
"""What is one value for a whole dataset: kept in its provenance, and set beside rows when they are read."""

CONTENTS: tuple[Column, ...] = tuple(
    Column(name, pa.int64(), unit, meaning, nullable=True)
    for name, unit, meaning in (
        ("decode_requests", "requests", "Requests that get a next token in the step."),
        ("decode_context_tokens", "tokens", "The sum of what they attend to."),
        ("prefill_requests", "requests", "Requests whose prompt is worked on in the step."),
        ("prefill_tokens", "tokens", "Tokens of their prompts that are computed in the step."),
        ("prefill_cached_tokens", "tokens", "Tokens of the same prompts that were computed before."),
        ("prefill_pairs", "pairs", "Pairs of tokens that attend, of the prompts: causal."),
        ("longest_context", "tokens", "What the request with the longest context attends to."),
        ("waiting_requests", "requests", "Requests that the step had no place for."),
        (
            "largest_graph_tokens",
            "tokens",
            "Tokens of the largest batch that is recorded as a graph: beyond it a step is launched kernel by "
            "kernel. 0 where none is recorded.",
        ),
    )
)
"""What is in a step: of a serving engine as its scheduler says, of one batch alone as follows from it."""

BEFORE: tuple[Column, ...] = (
    Column(
        "previous_token_latency_ms",
        pa.float64(),
        "ms",
        "Latency of the request's token before this one; empty for its first.",
        nullable=True,
    ),
)
"""What is known of the steps before, set beside rows when they are read."""

SCHEMA = pa.schema([pa.field(c.name, c.dtype, nullable=c.nullable) for c in COLUMNS])
COLUMN = {column.name: column for column in COLUMNS}
KNOWN = {column.name: column for column in (*COLUMNS, *CONTENTS, *FACTS, *BEFORE)}
"""Every column that the predicting half finds on measured rows, by name."""

TARGET = "token_latency_ms"
REQUEST, PROMPT, TIME = "request_id", "prompt_id", "completed_at_ns"
