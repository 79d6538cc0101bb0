"""The bands of a fitted regressor: for each phase inside what was measured, and one for outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.fit.evaluate import Milliseconds
from llmlat.fit.uncertainty.conformal import LEVELS, Band, calibrate, least_scale
from llmlat.records import PHASES


@dataclass(frozen=True)
class Calibration:
    """What is known of a fit's misses on held-out groups.

    Attributes
    ----------
    group : str
        The column that names the groups.
    least_ms : float
        No miss is taken relative to less.
    by_phase : dict of str to Band
    beyond : Band or None
        The misses at longer contexts than a fit had seen; None where the rows do not allow to tell.
    """

    group: str
    least_ms: float
    by_phase: dict[str, Band]
    beyond: Band | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as `predictor.json` and `metrics.json` hold it."""
        return {
            "grouped_by": self.group,
            "least_ms": self.least_ms,
            "by_phase": {phase: band.as_dict() for phase, band in self.by_phase.items()},
            "beyond": self.beyond.as_dict() if self.beyond else None,
        }

    def half_widths(self, rows: pd.DataFrame, predicted_ms: Milliseconds, level: float) -> Milliseconds:
        """Return how far an interval reaches on either side, in milliseconds; infinite where unknown.

        Parameters
        ----------
        rows : DataFrame
            Rows inside what was measured.
        predicted_ms : ndarray of float64, shape (n_rows,)
        level : float
            One of `LEVELS`.
        """
        shares = {phase: band.levels[f"{level:g}"] for phase, band in self.by_phase.items()}
        share = rows["phase"].map({k: np.inf if v is None else v for k, v in shares.items()})
        scale: npt.NDArray[np.float64] = np.maximum(predicted_ms, self.least_ms)
        return share.fillna(np.inf).to_numpy(dtype=np.float64) * scale


def calibrate_bands(predictions: pd.DataFrame, group: str, beyond: pd.DataFrame | None = None) -> Calibration:
    """Turn misses of out-of-fold predictions into bands.

    The misses are those of fits on the other folds, and not of the fit that the bands go with: it has seen
    more, so it misses no more than they do on average. What is proven of such bands is a little less than of
    a part that no fit has seen (Barber et al., *Predictive inference with the jackknife+*, 2021, section 3).

    Parameters
    ----------
    predictions : DataFrame
        Training rows with `predicted_ms`, each by a fit that has seen none of its group.
    group : str
        The column that names the groups.
    beyond : DataFrame, optional
        Training rows with `predicted_ms`, by fits on shorter contexts of other groups.
    """
    least_ms = least_scale(predictions)
    bands = {
        str(phase): calibrate(part, part["predicted_ms"].to_numpy(), group, least_ms)
        for phase, part in predictions.groupby("phase", sort=False)
    }
    outer = None
    if beyond is not None:
        outer = calibrate(beyond, beyond["predicted_ms"].to_numpy(), group, least_ms)
    return Calibration(group, least_ms, {phase: bands[phase] for phase in PHASES if phase in bands}, outer)


def crossed_coverage(folds: Sequence[pd.DataFrame], group: str, level: float = 0.9) -> dict[str, Any]:
    """Try the intervals of a level on each fold in turn, with bands of the other folds' misses.

    Parameters
    ----------
    folds : sequence of DataFrame
        Rows with `predicted_ms`, by a fit on the other folds; no group is in two.
    group : str
    level : float, default=0.9

    Returns
    -------
    dict
        As `coverage` has it, over all folds.
    """
    tried = []
    for k, fold in enumerate(folds):
        bands = calibrate_bands(pd.concat([*folds[:k], *folds[k + 1 :]]), group)
        tried.append(_asked(fold, fold["predicted_ms"].to_numpy(), bands, level))
    return _summary(pd.concat(tried, ignore_index=True), level)


def coverage(
    test: pd.DataFrame, predicted_ms: Milliseconds, calibration: Calibration, level: float = 0.9
) -> dict[str, Any]:
    """Try the intervals of a level on rows that had no part in the fit, nor in the calibration.

    Parameters
    ----------
    test : DataFrame
        Rows of groups that the training rows do not have.
    predicted_ms : ndarray of float64, shape (n_rows,)
    calibration : Calibration
    level : float, default=0.9

    Returns
    -------
    dict
        `level`, `n_groups`, `n_rows`; `coverage`, the mean over groups of the share of their rows inside;
        `row_coverage`, the share of all rows; `median_width_ms` and `median_relative_width` (of the
        prediction), None where intervals are infinite; the same `by_phase` and, in `by_context`, for thirds
        of the rows by context length, `from` and `to`.
    """
    if level not in LEVELS:
        raise ValueError(f"level={level}: there are {LEVELS}")
    return _summary(_asked(test, predicted_ms, calibration, level), level)


def _asked(
    test: pd.DataFrame, predicted_ms: Milliseconds, calibration: Calibration, level: float
) -> pd.DataFrame:
    """Return for each row whether it lies inside, and how wide its interval is."""
    half = calibration.half_widths(test, predicted_ms, level)
    return pd.DataFrame(
        {
            "group": test[calibration.group].to_numpy(),
            "inside": np.abs(test["token_latency_ms"].to_numpy() - predicted_ms) <= half,
            "width_ms": half + np.minimum(half, np.maximum(predicted_ms, 0.0)),
            "relative_width": 2 * half / np.maximum(predicted_ms, calibration.least_ms),
            "phase": test["phase"].to_numpy(),
            "context": test["context_length"].to_numpy(),
        }
    )


def _summary(tried: pd.DataFrame, level: float) -> dict[str, Any]:
    thirds = pd.qcut(tried["context"], 3, duplicates="drop") if tried["context"].nunique() > 2 else None
    return {
        "level": level,
        **_tried(tried),
        "by_phase": {str(phase): _tried(part) for phase, part in tried.groupby("phase")},
        "by_context": []
        if thirds is None
        else [
            {"from": int(part["context"].min()), "to": int(part["context"].max()), **_tried(part)}
            for _, part in tried.groupby(thirds, observed=True)
        ],
    }


def _tried(part: pd.DataFrame) -> dict[str, Any]:
    def finite(values: pd.Series) -> float | None:
        median = float(values.median())
        return median if np.isfinite(median) else None

    return {
        "n_groups": int(part["group"].nunique()),
        "n_rows": len(part),
        "coverage": float(part.groupby("group")["inside"].mean().mean()),
        "row_coverage": float(part["inside"].mean()),
        "median_width_ms": finite(part["width_ms"]),
        "median_relative_width": finite(part["relative_width"]),
    }
