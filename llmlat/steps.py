"""From tokens to steps: one row for each step that was timed.

A step that generates several tokens side by side has one latency, and so has a chunk of several tokens from
a server. Their rows share it, and counting each of them would pretend to more measurements than there were:
a random split would find every test row's twin among the training rows, and equal rows would look free of
noise.
"""

import pandas as pd

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
