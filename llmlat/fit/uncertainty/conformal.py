"""Intervals from misses on held-out groups: split conformal prediction for rows that come in groups.

Tokens of one request are alike, so rows are not exchangeable, and bands calibrated on rows are far too
narrow for the next request. Requests are. With K held-out groups, of which group k has n_k rows, the band
takes the quantile of the misses weighted 1 / ((K + 1) n_k) each, and puts the remaining 1 / (K + 1) at
infinity: then a row of a new group lies within with the probability that was asked for, or more (Lee,
Barber and Willett, *Distribution-free inference with hierarchical data*, 2023, section 4; for one row a group
it is the usual rule of Vovk et al., *Algorithmic Learning in a Random World*, 2005).

Misses are taken relative to the prediction, as noise grows with the latency.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.fit.evaluate import Milliseconds
from llmlat.records import TARGET

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
QUANTILES = (0.5, 0.9, 0.99)
LEAST_SHARE = (
    0.05  # of the median latency: no miss is taken relative to less, as a prediction may be 0 or below
)


@dataclass(frozen=True)
class Band:
    """What held-out groups of one kind of row missed.

    Attributes
    ----------
    n_groups, n_rows : int
    levels : dict of str to float or None
        For each of `LEVELS`, how far on either side of the prediction, as a share of it; None where there are
        too few groups to tell.
    quantiles : dict of str to float or None
        For each of `QUANTILES`, what the prediction is multiplied with, less 1.
    """

    n_groups: int
    n_rows: int
    levels: dict[str, float | None]
    quantiles: dict[str, float | None]

    def as_dict(self) -> dict[str, Any]:
        """Return the band as `predictor.json` and `metrics.json` hold it."""
        return {
            "n_groups": self.n_groups,
            "n_rows": self.n_rows,
            "levels": self.levels,
            "quantiles": self.quantiles,
        }


def calibrate(rows: pd.DataFrame, predicted_ms: Milliseconds, group: str, least_ms: float) -> Band:
    """Return the band of held-out rows.

    Parameters
    ----------
    rows : DataFrame
        Rows that the predictions' fits have not seen, nor any other row of their groups.
    predicted_ms : ndarray of float64, shape (n_rows,)
    group : str
        The column that names the groups.
    least_ms : float
        From `least_scale`.
    """
    scores = relative_misses(rows[TARGET].to_numpy(), predicted_ms, least_ms)
    _, of_group, sizes = np.unique(rows[group].to_numpy(), return_inverse=True, return_counts=True)
    weights = 1.0 / ((len(sizes) + 1) * sizes[of_group])
    return Band(
        n_groups=len(sizes),
        n_rows=len(rows),
        levels={_key(level): _quantile(np.abs(scores), weights, level) for level in LEVELS},
        quantiles={_key(q): _quantile(scores, weights, q) for q in QUANTILES},
    )


def relative_misses(measured_ms: Milliseconds, predicted_ms: Milliseconds, least_ms: float) -> Milliseconds:
    """Return measured less predicted, as a share of the prediction."""
    misses: Milliseconds = (measured_ms - predicted_ms) / np.maximum(predicted_ms, least_ms)
    return misses


def least_scale(rows: pd.DataFrame) -> float:
    """Return what no miss is taken relative to less than, in milliseconds."""
    return LEAST_SHARE * float(rows[TARGET].median())


def groups_needed(level: float) -> int:
    """Return how many held-out groups it takes for an interval of this level to be finite.

    Examples
    --------
    >>> groups_needed(0.9), groups_needed(0.99)
    (9, 99)
    """
    return int(np.ceil(round(level / (1 - level), 9)))


def _key(level: float) -> str:
    return f"{level:g}"


def _quantile(scores: Milliseconds, weights: npt.NDArray[np.float64], level: float) -> float | None:
    """Return the smallest score that `level` of the weight lies up to; None where that is infinity."""
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order]) >= level - 1e-12
    return float(scores[order][np.argmax(reached)]) if reached.any() else None
