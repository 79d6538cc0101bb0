"""What context and prompt length do to a decode step: slopes, with intervals that respect requests.

Tokens of one request are alike, so intervals come from drawing whole requests with replacement, as
`llmlat.fit.uncertainty.bootstrap` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.fit.uncertainty.bootstrap import bundles, draws_of, interval, resampled
from llmlat.records import DECODE, TARGET

N_RESAMPLES = 2000
MIN_REQUESTS = 8
CELL = ["model", "quantization", "engine", "batch_size", "num_beams"]
MOST_CELLS = 12


@dataclass(frozen=True)
class Slope:
    """A slope in milliseconds per 1,000 tokens, with its 95 % interval."""

    per_1k_tokens_ms: float
    low_ms: float
    high_ms: float

    def as_list(self) -> list[float]:
        """Return the slope and the ends of its interval."""
        return [self.per_1k_tokens_ms, self.low_ms, self.high_ms]

    def __str__(self) -> str:
        return f"{self.per_1k_tokens_ms:+.2f} ms [{self.low_ms:+.2f}, {self.high_ms:+.2f}]"


def steady_decode_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return decode rows outside warm-up and, where enough are left, the first request after loading."""
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
        A `Slope` for `context_alone` (the prompt's length left out) and, where the rows tell the two apart,
        for `context_length` (at equal prompts) and `prompt_tokens` (at equal context); None where there are
        too few requests, or one context.
    """
    steady = steady_decode_rows(rows)
    alone = _bootstrap(steady, ["context_length"], seed)
    if alone is None:
        return None
    both = _bootstrap(steady, ["context_length", "prompt_tokens"], seed)
    apart = {} if both is None else {"context_length": both[0], "prompt_tokens": both[1]}
    return {"context_alone": alone[0], **apart}


def decode_cells(rows: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Divide decode steps by what else decides their time, the context apart.

    A token of context is read once for each sequence: over batches of several sizes there is no one slope.

    Parameters
    ----------
    rows : DataFrame
        One row a step.

    Returns
    -------
    list of (dict, DataFrame)
        Of the twelve cells with the most decode rows, the small batches first: `model`, `quantization`,
        `engine`, `batch_size` and `num_beams`, and the rows.
    """
    decode = rows[rows["phase"] == DECODE].sort_values(["batch_size", "num_beams"], kind="stable")
    cells = decode.groupby(CELL, sort=False)
    largest = cells.size().nlargest(MOST_CELLS).index
    return [(_named(key), part) for key, part in cells if key in largest]


def _named(key: Sequence[Any]) -> dict[str, Any]:
    model, quantization, engine, batch_size, num_beams = key
    settings = {"batch_size": int(batch_size), "num_beams": int(num_beams)}
    return {"model": model, "quantization": quantization, "engine": engine, **settings}


def effects_by_cell(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what context does to a decode step, for each cell of `decode_cells`.

    Parameters
    ----------
    rows : DataFrame
        Counted rows, one a step.

    Returns
    -------
    list of dict
        The cell's settings, `n_rows`, `n_requests`; and in milliseconds per 1,000 tokens, as [value, low,
        high] with a 95 % interval over requests, or None where it cannot be told: `context_alone`, and
        beside each other `context_length` (at equal prompts) and `prompt_tokens` (at equal context).
    """
    found = []
    for cell, part in decode_cells(rows):
        slopes = decode_slopes(part) or {}
        names = ("context_alone", "context_length", "prompt_tokens")
        told = {name: slopes[name].as_list() if name in slopes else None for name in names}
        counts = {"n_rows": len(part), "n_requests": int(part["request_id"].nunique())}
        found.append({**cell, **counts, **told})
    return found


def decode_curvature(rows: pd.DataFrame, seed: int = 0) -> Slope | None:
    """Return the coefficient of context length squared, in ms per (1,000 tokens)², beside a linear term."""
    steady = steady_decode_rows(rows)
    # In floating point: the square of a context above 46,340 tokens does not fit into the rows' 32 bits.
    context = steady["context_length"].astype(np.float64)
    bent = _bootstrap(
        steady.assign(context_squared_k=context**2 / 1e3), ["context_length", "context_squared_k"], seed
    )
    return None if bent is None else bent[1]


def _bootstrap(rows: pd.DataFrame, columns: list[str], seed: int) -> list[Slope] | None:
    """Return the least-squares slope of each column, with an interval over resampled requests.

    None where there are too few requests, or the columns do not vary apart from each other.
    """
    if rows["request_id"].nunique() < MIN_REQUESTS:
        return None
    values = rows[columns].to_numpy(dtype=np.float64)
    centred = (values - values.mean(axis=0)) / 1e3
    design = np.column_stack([np.ones(len(rows)), centred, *_newness(rows)])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    of_group, n_groups = bundles(rows["request_id"])
    draws = np.vstack([np.ones(n_groups), draws_of(n_groups, seed, N_RESAMPLES)])
    fitted = resampled(design, rows[TARGET].to_numpy(), of_group, draws)[:, 1 : 1 + len(columns)]
    return [Slope(float(drawn[0]), *interval(drawn[1:], n_groups)) for drawn in fitted.T]


def _newness(rows: pd.DataFrame) -> list[npt.NDArray[np.float64]]:
    """Return whether steps visit their context length first, as a column of its own, where rows differ in it.

    A first visit may cost a plan of tens of milliseconds, and longer contexts are the newer ones: left out,
    the slope of the context would take the blame.
    """
    first = rows["first_visit"].to_numpy(dtype=np.float64)
    return [first] if np.ptp(first) > 0 else []
