"""Rows of a known truth, shaped and typed as a dataset returns them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from llmlat.config import FeaturesConfig
from llmlat.records import COLUMNS, DECODE, FACTS, PREFILL, SCHEMA
from llmlat.steps import previous_latency, with_contents

THESIS_LENGTHS = tuple(np.linspace(12, 640, 15).astype(int))
THESIS_TOKENS = (22, 16, 31, 56, 33, 20, 36, 38, 41, 28, 42, 40, 18, 24, 26)  # 471 in all
THESIS_FEATURES = FeaturesConfig(["prompt_tokens", "context_length"])
RIDGE = {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0}
ABOUT = {"engine": "eager", "model": "tiny"}


def rows_of(
    mean: Callable[[pd.DataFrame], Any],
    lengths: Sequence[int] = THESIS_LENGTHS,
    tokens: Sequence[int] | int = THESIS_TOKENS,
    repetitions: int = 1,
    noise: float = 0.0,
    of_request: float = 0.0,
    is_relative: bool = False,
    batch_sizes: Sequence[int] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Make rows whose latency is a mean, plus what the request does, plus what the step does.

    Parameters
    ----------
    mean : callable
        Of the rows; in milliseconds.
    lengths : sequence of int
        Tokens of each prompt.
    tokens : sequence of int, or int
        Generated of each.
    repetitions : int
        How often each prompt is measured; every time it is a request of its own.
    noise, of_request : float
        Standard deviations of what a step and a request add: in milliseconds, or of the logarithm.
    is_relative : bool
        Whether they multiply.
    batch_sizes : sequence of int, optional
        Of each prompt; 1 unless given.
    seed : int
    """
    counts = [tokens] * len(lengths) if isinstance(tokens, int) else list(tokens)
    sizes = [1] * len(lengths) if batch_sizes is None else list(batch_sizes)
    rows = pd.concat(
        [
            request(repetition * len(lengths) + k, repetition, int(length), count, k).assign(batch_size=size)
            for repetition in range(repetitions)
            for k, (length, count, size) in enumerate(zip(lengths, counts, sizes, strict=True))
        ],
        ignore_index=True,
    )
    rows["batch_context_tokens"] = rows["context_length"] * rows["batch_size"]
    generator = np.random.default_rng(seed)
    effect = generator.normal(0, 1, len(lengths) * repetitions)[rows["request_id"]] * of_request
    effect += generator.normal(0, 1, len(rows)) * noise
    expected = np.asarray(mean(rows), dtype=np.float64)
    return timed(rows, expected * np.exp(effect) if is_relative else expected + effect)


def timed(rows: pd.DataFrame, latency_ms: Any) -> pd.DataFrame:
    """Return rows with their latencies, measured one after the other, as a dataset stores them."""
    latency = np.asarray(latency_ms, dtype=np.float64)
    return as_stored(
        rows.assign(
            token_latency_ms=latency,
            first_visit=~rows.duplicated(["phase", "context_length"]),
            completed_at_ns=(latency.cumsum() * 1e6).astype("int64"),
        )
    )


def as_stored(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the columns and types of a dataset; a column that they lack is as in a plain run."""
    plain: dict[str, Any] = {
        "sequence_index": 0,
        "engine": "eager",
        "batch_size": 1,
        "num_beams": 1,
        "temperature": 0.0,
        "padded_context_length": rows["context_length"],
        "batch_context_tokens": rows["context_length"],
        "flags": "",
    }
    empty = {column.name: None for column in COLUMNS if column.nullable}
    filled = rows.assign(**{name: value for name, value in (empty | plain).items() if name not in rows})
    stored: pd.DataFrame = pa.Table.from_pandas(filled, schema=SCHEMA, preserve_index=False).to_pandas()
    sizes = dict.fromkeys((column.name for column in FACTS if not column.is_text), 8.0)
    facts = {**sizes, "n_parameters": 1e6, "weight_bytes": 2e6, "kv_bytes_per_token": 1e3}
    before = previous_latency(stored)
    return with_contents(stored).assign(
        model="tiny", quantization="none", **facts, previous_token_latency_ms=before
    )


def request(request_id: int, repetition: int, prompt_tokens: int, count: int, prompt: int) -> pd.DataFrame:
    """Return the rows of one request; it has no latencies yet."""
    index = np.arange(count)
    columns: dict[str, Any] = {
        "request_id": request_id,
        "prompt_id": f"prompt-{prompt}",
        "repetition": repetition,
        "session_id": 0,
        "session_request": max(request_id, 0),
        "is_warmup": request_id < 0,
        "token_index": index,
        "phase": np.where(index == 0, PREFILL, DECODE),
        "prompt_tokens": prompt_tokens,
        "context_length": prompt_tokens + index,
        "token_id": 5,
        "token_latency_ms": 0.0,
        "device_latency_ms": np.nan,
        "completed_at_ns": 0,
    }
    return pd.DataFrame(columns)
