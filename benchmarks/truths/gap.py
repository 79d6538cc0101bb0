"""The leakage gap: what testing on rows at random flatters, beside the same rows with groups held out."""

from typing import Any

from llmlat.config import SplitConfig, SplitName
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import analyse
from truths import Answer, statement
from truths.rows import ABOUT, RIDGE, THESIS_FEATURES, rows_of, timed


def ratio(rows: Any, seed: int) -> float:
    """Return `leakage_gap.mae_ratio` of rows."""
    split = SplitConfig(SplitName.random, 0.2, seed)
    metrics = analyse(rows, build_pipeline(RIDGE, THESIS_FEATURES), split, ABOUT).metrics
    return float(metrics["leakage_gap"]["mae_ratio"])


def line(rows: Any) -> Any:
    """Return the truth of all: a line in the context."""
    return 30 + 0.01 * rows["context_length"]


@statement("the leakage gap lies within 0.95 and 1.05", "nothing leaks: a line and noise", at_least=0.9)
def gap_without_leakage(seed: int) -> Answer:
    """Take independent noise: whole requests are as easy as rows at random."""
    return 0.95 <= ratio(rows_of(line, noise=2.0, seed=seed), seed) <= 1.05


@statement(
    "the leakage gap lies within 0.95 and 1.05", "nothing leaks, and one row takes 1,500 ms", at_least=0.9
)
def gap_with_one_slow_row(seed: int) -> Answer:
    """Take the thesis's own shape: one row that no split predicts."""
    rows = rows_of(line, noise=2.0, seed=seed)
    latency = rows["token_latency_ms"].to_numpy().copy()
    latency[0] = 1500.0
    return 0.95 <= ratio(timed(rows, latency), seed) <= 1.05


@statement("the leakage gap is above 1", "requests differ by a standard deviation of 2 ms", at_least=0.9)
def gap_with_leakage(seed: int) -> Answer:
    """Let a request's tokens share what it does, so that rows at random know it already."""
    return ratio(rows_of(line, noise=2.0, of_request=2.0, seed=seed), seed) > 1
