"""What context and prompt length do to a decode step: slopes, with intervals that respect requests.

Tokens of one request are alike, so intervals come from drawing whole requests with replacement (the cluster
bootstrap; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmlat.records import DECODE, TARGET

N_RESAMPLES = 2000
MIN_REQUESTS = 4


@dataclass(frozen=True)
class Slope:
    """A slope in milliseconds per 1,000 tokens, with its 95 % interval."""

    per_1k_tokens_ms: float
    low_ms: float
    high_ms: float

    def __str__(self) -> str:
        return f"{self.per_1k_tokens_ms:+.2f} ms [{self.low_ms:+.2f}, {self.high_ms:+.2f}]"


def steady_decode_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return decode rows outside warm-up and outside the first request after loading, where there are others."""
    steady = rows[(rows["phase"] == DECODE) & ~rows["is_warmup"]]
    later = steady[steady["session_request"] > 0]
    return later if later["request_id"].nunique() >= MIN_REQUESTS else steady


def decode_slopes(rows: pd.DataFrame, seed: int = 0) -> dict[str, Slope] | None:
    """Fit decode latency on context length and prompt length together.

    Parameters
    ----------
    rows : DataFrame
        Token rows; steady decode rows among them are used.
    seed : int
        Seeds the bootstrap.

    Returns
    -------
    dict or None
        A `Slope` for `context_length` (at equal prompts), for `prompt_tokens` (at equal context) and for
        `context_alone` (the prompt's length left out); None where there are too few requests.
    """
    steady = steady_decode_rows(rows)
    if steady["request_id"].nunique() < MIN_REQUESTS:
        return None
    both = _bootstrap(steady, ["context_length", "prompt_tokens"], seed)
    alone = _bootstrap(steady, ["context_length"], seed)
    return {"context_length": both[0], "prompt_tokens": both[1], "context_alone": alone[0]}


def decode_curvature(rows: pd.DataFrame, seed: int = 0) -> Slope | None:
    """Return the coefficient of context length squared (ms per 1,000 tokens squared), beside a linear term."""
    steady = steady_decode_rows(rows)
    if steady["request_id"].nunique() < MIN_REQUESTS:
        return None
    squared = steady.assign(context_squared_k=steady["context_length"] ** 2 / 1e3)
    return _bootstrap(squared, ["context_length", "context_squared_k"], seed)[1]


def _bootstrap(rows: pd.DataFrame, columns: list[str], seed: int) -> list[Slope]:
    """Return the least-squares slope of each column, with an interval over resampled requests."""
    values = rows[columns].to_numpy(dtype=np.float64) / 1e3
    centre = values.mean(axis=0)
    design = np.column_stack([np.ones(len(rows)), values - centre])
    target = rows[TARGET].to_numpy()
    _, group = np.unique(rows["request_id"].to_numpy(), return_inverse=True)
    n_groups = int(group.max()) + 1
    # Normal equations add up over requests, so a resample is a weighted sum and not another pass over rows.
    gram = np.zeros((n_groups, design.shape[1], design.shape[1]))
    moment = np.zeros((n_groups, design.shape[1]))
    np.add.at(gram, group, design[:, :, None] * design[:, None, :])
    np.add.at(moment, group, design * target[:, None])
    draws = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), N_RESAMPLES)
    weights = np.vstack([np.ones(n_groups), draws])
    grams, moments = np.tensordot(weights, gram, 1), weights @ moment
    fitted = (np.linalg.pinv(grams, hermitian=True) @ moments[:, :, None])[:, 1:, 0]
    low, high = np.quantile(fitted[1:], [0.025, 0.975], axis=0)
    return [Slope(float(fitted[0, k]), float(low[k]), float(high[k])) for k in range(len(columns))]
