"""The bands of a fitted regressor: for each phase inside what was measured, and one for outside."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.beside import parts
from llmlat.fit.evaluate import Milliseconds
from llmlat.fit.fitting import fit, predict
from llmlat.fit.split import kept_apart, split_rows
from llmlat.fit.uncertainty.conformal import LEVELS, Band, calibrate, least_scale
from llmlat.fit.validate import OutOfFold, out_of_fold
from llmlat.records import PHASES

BEYOND = (
    0.4  # the share of the training rows, those at the longest contexts, that are held out to see how far off
)


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


def calibrate_fit(
    train: pd.DataFrame, pipeline: Pipeline, split: SplitConfig, validated: OutOfFold | str | None = None
) -> tuple[Calibration | None, str | None]:
    """Calibrate a regressor on the training rows alone.

    The misses are those of fits on the other folds, and not of the fit that the bands go with: it has seen
    more, so it misses no more than they do on average. What is proven of such bands is a little less than of
    a part that no fit has seen (Barber et al., *Predictive inference with the jackknife+*, 2021, section 3).

    Parameters
    ----------
    train : DataFrame
        The training rows; no test row may be among them.
    pipeline : Pipeline
        Unfitted.
    split : SplitConfig
        Says which groups are kept apart.
    validated : OutOfFold or str, optional
        From `validate`; made good use of where its folds are of those groups.

    Returns
    -------
    calibration : Calibration or None
    reason : str or None
        Why there is none.
    """
    group = kept_apart(split)
    found = validated
    if not isinstance(found, OutOfFold) or found.group != group:
        try:
            found = out_of_fold(train, pipeline, group)
        except ConfigError as error:
            return None, str(error)
    least_ms = least_scale(train)
    bands = {}
    for phase in PHASES:
        is_phase = (train["phase"] == phase).to_numpy()
        if is_phase.any():
            bands[phase] = calibrate(train[is_phase], found.predicted_ms[is_phase], group, least_ms)
    return Calibration(group, least_ms, bands, _beyond(train, pipeline, group, least_ms)), None


def _beyond(train: pd.DataFrame, pipeline: Pipeline, group: str, least_ms: float) -> Band | None:
    """Return what fits on the shorter contexts of other groups miss on the longer ones.

    A request that grows across the border has rows on either side, and a fit that knows its beginning misses
    less of its end than of a new request's. So the half of those that is predicted is held out whole.
    """
    try:
        near, far = parts(train, split_rows(train, SplitConfig(SplitName.extrapolate, BEYOND)))
        across = np.intersect1d(near[group], far[group])
        is_second_half = far[group].isin(across[1::2]).to_numpy()
        predicted_ms = np.empty(len(far))
        for asked in (~is_second_half, is_second_half):
            if asked.any():
                others = near[~near[group].isin(far.loc[asked, group])]
                predicted_ms[asked] = predict(fit(pipeline, others, group), far[asked])
        return calibrate(far, predicted_ms, group, least_ms)
    except ConfigError:
        return None


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
    half = calibration.half_widths(test, predicted_ms, level)
    tried = pd.DataFrame(
        {
            "group": test[calibration.group].to_numpy(),
            "inside": np.abs(test["token_latency_ms"].to_numpy() - predicted_ms) <= half,
            "width_ms": half + np.minimum(half, np.maximum(predicted_ms, 0.0)),
            "relative_width": 2 * half / np.maximum(predicted_ms, calibration.least_ms),
            "phase": test["phase"].to_numpy(),
            "context": test["context_length"].to_numpy(),
        }
    )
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
