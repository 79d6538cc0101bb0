"""From tokens to steps: one row for each step that was timed.

A step that generates several tokens side by side has one latency, and so has a chunk of several tokens from
a server. Their rows share it, and counting each of them would pretend to more measurements than there were:
a random split would find every test row's twin among the training rows, and equal rows would look free of
noise.
"""

import numpy as np
import pandas as pd

from llmlat.records import PREFILL, TARGET

NO_CACHE, CUDA_GRAPH = "no_cache", "cuda_graph"
"""Engines that compute the whole sequence at every step, and that launch a step as one graph."""

# Chunks of two requests to a server may arrive at the same nanosecond of the clock.
STEP = ["session_id", "request_id", "completed_at_ns"]


def one_row_a_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each step's longest sequence, which decides how long the step takes.

    Parameters
    ----------
    rows : DataFrame
        Token rows, as `Dataset.read` returns them.

    Returns
    -------
    DataFrame
        In the same order; the same rows where every step generated one token.
    """
    longest_first = rows.sort_values("context_length", ascending=False, kind="stable")
    kept = longest_first.drop_duplicates(STEP).index.sort_values()
    return rows.loc[kept].reset_index(drop=True)


def previous_latency(rows: pd.DataFrame) -> pd.Series:
    """Return, for each row, the latency of the token before it in its request; NaN for token 0."""
    session, request, token = (rows[name].to_numpy() for name in ("session_id", "request_id", "token_index"))
    order = np.lexsort((token, request, session))
    is_same = (np.diff(session[order]) == 0) & (np.diff(request[order]) == 0)
    latency = rows[TARGET].to_numpy()[order]
    previous = np.full(len(rows), np.nan)
    previous[order[1:]] = np.where(is_same, latency[:-1], np.nan)
    return pd.Series(previous, index=rows.index, name=TARGET)


def with_contents(steps: pd.DataFrame) -> pd.DataFrame:
    """Set beside steps of one batch what is in them, by the names of `llmlat.records.CONTENTS`.

    What is padded is computed all the same, so it counts; a batch of a server's is not known.
    """
    sequences = steps["batch_size"] * steps["num_beams"]
    length = steps["padded_context_length"].astype("Float64")
    is_whole = (steps["phase"] == PREFILL) | (steps["engine"] == NO_CACHE)
    prompts, next_tokens = sequences.where(is_whole, 0), sequences.where(~is_whole, 0)
    contents = {
        "decode_requests": next_tokens.where(length.notna()),
        "decode_context_tokens": steps["batch_context_tokens"].where(~is_whole, 0),
        "prefill_requests": prompts.where(length.notna()),
        "prefill_tokens": prompts * length,
        "prefill_cached_tokens": (prompts * 0).where(length.notna()),
        "prefill_pairs": prompts * length * (length + 1) / 2,
        "longest_context": length,
        "waiting_requests": (prompts * 0).where(length.notna()),
        # A recorded graph is of a batch's next tokens.
        "largest_graph_tokens": sequences.where(steps["engine"] == CUDA_GRAPH, 0).astype(float),
    }
    return steps.assign(**{name: values.astype("Float64") for name, values in contents.items()})


def first_visits(steps: pd.DataFrame, largest_graph_tokens: int) -> pd.Series:
    """Return which steps are the first of their number of tokens, beyond what recorded graphs hold.

    Parameters
    ----------
    steps : DataFrame
        Steps of one process in their order, with `decode_requests`, `prefill_requests` and `prefill_tokens`.
    largest_graph_tokens : int
        Up to so many tokens a step is launched from recorded graphs, which were visited when recorded.
    """
    tokens = steps["decode_requests"] + steps["prefill_tokens"]
    is_beyond = (steps["prefill_requests"] > 0) & (tokens > largest_graph_tokens)
    return is_beyond & ~tokens.where(is_beyond).duplicated()
