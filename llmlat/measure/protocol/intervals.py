"""How well a median is known: the interval over repetitions.

Tokens of one request share its moment, so they are no independent draws: the unit is the request's median,
and the interval is Student's over the repetitions' medians.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from llmlat.records import DECODE, TARGET

CONFIDENCE = 0.95
MIN_REPETITIONS = 3


def typical_latency_ms(rows: pd.DataFrame) -> float:
    """Return a request's median decode latency, or its prefill's where it generates one token.

    A `first_visit` of a shape is left out: its cost comes once and would be taken for noise. NaN where
    nothing else is there.
    """
    steps = rows.drop_duplicates("token_index")
    decoded = steps[steps["phase"] == DECODE]
    typical = decoded if len(decoded) else steps
    return float(typical.loc[~typical["first_visit"], TARGET].median())


def relative_half_width(latencies_ms: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of the repetitions' mean, over their median.

    Infinite with fewer than three repetitions.
    """
    known = np.array([latency for latency in latencies_ms if not math.isnan(latency)])
    if len(known) < MIN_REPETITIONS:
        return math.inf
    quantile = float(stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * float(known.std(ddof=1)) / math.sqrt(len(known))
    return half / float(np.median(known))
