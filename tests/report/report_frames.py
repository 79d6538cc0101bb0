"""The rows and predictions of a small run as the report sees them, without a model and without a fit."""

from typing import Any

import numpy as np
import pandas as pd

from llmlat.records import TELEMETRY

INTERCEPT, PER_PROMPT, PER_CONTEXT = 38.0, -0.004, 0.011
MODEL = "mistralai/Mistral-7B-Instruct-v0.3"


def make_rows(n_requests: int = 10, tokens: int = 30, outlier_ms: float | None = 1512.0) -> pd.DataFrame:
    """Make token rows of prompts of growing length, one warm-up request, and one very slow first token."""
    rng = np.random.default_rng(7)
    frames = []
    for request in range(-1, n_requests):
        prompt = 12 if request < 0 else int(12 * 1.5 ** (request % 10))
        index = np.arange(8 if request < 0 else tokens)
        context = prompt + index
        wall = INTERCEPT + PER_PROMPT * prompt + PER_CONTEXT * context + rng.normal(0, 0.5, len(index))
        wall[0] += 25 + 0.05 * prompt
        frames.append(
            pd.DataFrame(
                {
                    "request_id": request,
                    "prompt_id": f"prompt-{request % 10:02d}",
                    "repetition": max(request, 0) // 10,
                    "engine": "eager",
                    "model": MODEL,
                    "quantization": "int8",
                    "batch_size": 1,
                    "num_beams": 1,
                    "temperature": 0.0,
                    "session_id": 0,
                    "session_request": request + 1,
                    "is_warmup": request < 0,
                    "token_index": index,
                    "phase": np.where(index == 0, "prefill", "decode"),
                    "prompt_tokens": prompt,
                    "context_length": context,
                    "padded_context_length": context,
                    "batch_context_tokens": context,
                    "first_visit": request < 3,
                    "token_id": 5,
                    "token_latency_ms": wall,
                    "device_latency_ms": wall - 0.1,
                    "completed_at_ns": np.cumsum(wall * 1e6).astype("int64"),
                }
            )
        )
    rows = pd.concat(frames, ignore_index=True)
    sizes = {"n_parameters": 7.2e9, "weight_bytes": 7.5e9, "kv_bytes_per_token": 131_072.0}
    rows = rows.assign(**_machine(len(rows)), **sizes, telemetry_age_ms=40.0, flags="")
    rows["previous_token_latency_ms"] = rows.groupby("request_id")["token_latency_ms"].shift()
    if outlier_ms is not None:
        first = rows.index[(rows["request_id"] == 0) & (rows["token_index"] == 0)]
        rows.loc[first, "token_latency_ms"] = outlier_ms
    return rows


def _machine(n_rows: int) -> dict[str, Any]:
    """Return telemetry of a GPU that warms up and gives way a little."""
    at = np.linspace(0, 1, n_rows)
    known = {
        "sm_clock_mhz": np.round(1980 - 60 * (at > 0.6)),
        "gpu_temperature_c": np.round(38 + 20 * at),
        "gpu_power_w": 180 + 90 * at,
    }
    return {column.name: None for column in TELEMETRY} | known


def make_predictions(rows: pd.DataFrame, step: int = 5) -> pd.DataFrame:
    """Predict every `step`-th counted row, the very first among them."""
    test = rows[~rows["is_warmup"]].iloc[::step]
    predicted = INTERCEPT + PER_PROMPT * test["prompt_tokens"] + PER_CONTEXT * test["context_length"]
    return test.assign(predicted_ms=predicted)
