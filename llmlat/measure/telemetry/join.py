"""Samples onto rows: pure functions of frames.

A step begins where the one before it ended: at `completed_at_ns` less `token_latency_ms`. Its row carries the
last sample that was complete strictly before that, and rows of one step share it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llmlat.measure.frames import step_spans
from llmlat.records import TELEMETRY

NAMES = tuple(column.name for column in TELEMETRY)
# Whole numbers stay whole beside empty cells.
_DTYPES = {
    column.name: {"int64": "Int64", "int32": "Int32"}.get(str(column.dtype), "float64")
    for column in TELEMETRY
}


def samples_frame(at_ns: Sequence[int], values: Sequence[tuple[float | int | None, ...]]) -> pd.DataFrame:
    """Return samples as a frame: `at_ns`, and the columns of `llmlat.records.TELEMETRY`.

    Parameters
    ----------
    at_ns : sequence of int
        When each sample was complete, ascending.
    values : sequence of tuples
        A sample's values in the order of the columns; None where it is not known.
    """
    frame = pd.DataFrame(values, columns=list(NAMES), dtype=object).astype(_DTYPES)
    frame.insert(0, "at_ns", np.array(at_ns, dtype=np.int64))
    return frame


def empty_samples() -> pd.DataFrame:
    """Return a frame of no samples."""
    return samples_frame([], [])


def join_samples(rows: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Give each row the last sample strictly before its step began, and that sample's age.

    Parameters
    ----------
    rows : DataFrame
        Token rows.
    samples : DataFrame
        From `samples_frame`, with an index from 0.

    Returns
    -------
    DataFrame
        The rows; their telemetry and `telemetry_age_ms` are empty before the first sample.
    """
    start_ns, _ = step_spans(rows)
    at_ns = samples["at_ns"].to_numpy()
    position = np.searchsorted(at_ns, start_ns, side="left") - 1
    known = samples[list(NAMES)].reindex(position).set_axis(rows.index)
    # Before the first sample the position is -1, which is the 0 at the end here, and not used.
    age_ms = np.where(position >= 0, (start_ns - np.append(at_ns, 0)[position]) / 1e6, np.nan)
    return rows.assign(**{name: known[name] for name in NAMES}, telemetry_age_ms=age_ms)
