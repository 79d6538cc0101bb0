"""Token rows to store in parquet files, and the types of the fixtures that do."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pandas as pd

from llmlat.sources.parquet.database import Part
from llmlat.sources.parquet.source import Source

FEATURES = ("prompt_tokens", "context_length", "batch_size")

Stored = Callable[..., Source]
Opened = Callable[..., AbstractContextManager[Part]]


def noisy_rows(n_requests: int = 60, seed: int = 0) -> pd.DataFrame:
    """Make rows of requests of several lengths, the first of them a warm-up, on a clock of nanoseconds."""
    generator = np.random.default_rng(seed)
    n_tokens = generator.integers(5, 60, n_requests)
    request = np.repeat(np.arange(n_requests), n_tokens)
    token = np.concatenate([np.arange(n) for n in n_tokens])
    prompt, batch = generator.integers(10, 4000, n_requests), generator.choice([1, 4, 16], n_requests)
    frame = pd.DataFrame({"request_id": request - 1, "token_index": token})
    frame["prompt_id"] = "prompt-" + frame["request_id"].astype(str)
    frame["prompt_tokens"] = prompt[request]
    frame["context_length"] = frame["prompt_tokens"] + token
    frame["batch_size"] = batch[request]
    frame["is_warmup"] = request == 0
    noise = generator.lognormal(0, 0.05, len(frame))
    frame["token_latency_ms"] = (8 + 1e-4 * frame["batch_size"] * frame["context_length"]) * noise
    frame["completed_at_ns"] = 1_790_000_000_000_000_000 + (frame["token_latency_ms"].cumsum() * 1e6).astype(
        "int64"
    )
    return frame
