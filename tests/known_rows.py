"""Token rows of a known truth, shaped and typed as a dataset returns them, and the analysis of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline
from truths.rows import ABOUT, THESIS_TOKENS, as_stored, request

from llmlat.config import FeaturesConfig, SplitConfig, SplitName
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import Analysis, analyse
from llmlat.records import PREFILL

FEATURES = ["prompt_tokens", "context_length"]

MakeRows = Callable[..., pd.DataFrame]
Analyse = Callable[..., Analysis]


def rows_of(
    lengths: Sequence[int],
    tokens: Sequence[int] | int = 30,
    repetitions: int = 1,
    intercept_ms: float = 30.0,
    per_prompt: float = 0.0,
    per_context: float = 0.01,
    per_context_squared: float = 0.0,
    prefill_ms: float = 0.0,
    noise_ms: float = 0.0,
    warmup: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Make rows whose latency is a known function of prompt and context, plus Gaussian noise."""
    counts = [tokens] * len(lengths) if isinstance(tokens, int) else list(tokens)
    plan = list(zip(range(len(lengths)), lengths, counts, strict=True))
    frames = [request(-1, 0, lengths[0], warmup, 0)] if warmup else []
    for repetition in range(repetitions):
        for prompt, length, count in plan:
            frames.append(request(repetition * len(lengths) + prompt, repetition, length, count, prompt))
    rows = pd.concat(frames, ignore_index=True)
    context = rows["context_length"].to_numpy(dtype=np.float64)
    latency = intercept_ms + per_prompt * rows["prompt_tokens"] + per_context * context
    latency += per_context_squared * context**2 + prefill_ms * (rows["phase"] == PREFILL)
    rows["token_latency_ms"] = latency + np.random.default_rng(seed).normal(0, 1, len(rows)) * noise_ms
    rows["first_visit"] = ~rows.duplicated(["phase", "context_length"])
    rows["completed_at_ns"] = (rows["token_latency_ms"].cumsum() * 1e6).astype("int64")
    return as_stored(rows)


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    return rows_of


@pytest.fixture(scope="session")
def thesis_rows() -> pd.DataFrame:
    """Return 471 rows of 15 requests: a known line, a dear prefill, one very slow first token, and noise."""
    lengths = np.linspace(12, 640, 15).astype(int)
    rows = rows_of(lengths, THESIS_TOKENS, prefill_ms=40.0, noise_ms=1.0, per_prompt=-0.004, per_context=0.05)
    rows.loc[0, "token_latency_ms"] = 1500.0
    return rows


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[..., Pipeline]:
    """Return a function that builds the pipeline of a regressor, by its class name below sklearn."""

    def make(
        target: str = "linear_model.Ridge", columns: Sequence[str] = FEATURES, **parameters: Any
    ) -> Pipeline:
        return build_pipeline({"_target_": f"sklearn.{target}", **parameters}, FeaturesConfig(list(columns)))

    return make


@pytest.fixture(scope="session")
def analysed(make_pipeline: Callable[..., Pipeline]) -> Analyse:
    """Return a function that analyses rows as a run does: Ridge and a random split unless told otherwise."""

    def run(
        rows: pd.DataFrame,
        pipeline: Pipeline | None = None,
        split: SplitName = SplitName.random,
        test_size: float = 0.2,
        **options: Any,
    ) -> Analysis:
        about = {**ABOUT, **options.pop("about", {})}
        return analyse(rows, pipeline or make_pipeline(), SplitConfig(split, test_size, 0), about, **options)

    return run


def never_quicker(spec: Mapping[str, Any], rows: pd.DataFrame, predicted_ms: Any) -> Any:
    """Return what a predictor answers where its pipeline says so: no less than its phase's fastest step."""
    fastest = {phase: entry["fastest_ms"] for phase, entry in spec["domain"]["phases"].items()}
    least = rows["phase"].map(fastest) if spec["domain"]["phase"] else fastest["all"]
    return pd.Series(np.maximum(predicted_ms, least), index=rows.index)
