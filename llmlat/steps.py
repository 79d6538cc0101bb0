"""From tokens to steps: one row for each step that was timed.

A step that generates several tokens side by side has one latency, and so has a chunk of several tokens from
a server. Their rows share it, and counting each of them would pretend to more measurements than there were:
a random split would find every test row's twin among the training rows, and equal rows would look free of
noise.
"""

import numpy as np
import pandas as pd

from llmlat.records import TARGET

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
