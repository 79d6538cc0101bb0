"""A prediction with what is known of its misses, and whether anything like it was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlat.errors import LlmlatError

if TYPE_CHECKING:
    from llmlat.predict.domain import Placed


class OutsideError(LlmlatError):
    """A step outside of what was measured, where the answer was to be refused."""


class OutsideWarning(UserWarning):
    """A prediction was asked for outside of what was measured."""


@dataclass(frozen=True)
class Estimate:
    """How long a step takes, and how far off that may be; arrays where arrays of steps were asked for.

    Each interval is of one step. Steps of one request are off the same way, so of a sum over them neither
    ends nor quantiles can be had as of independent ones.

    Attributes
    ----------
    ms : float or ndarray
        The prediction; it lies in the interval.
    low_ms, high_ms : float or ndarray
        The interval; from 0 to infinity where too few requests were measured to tell, or nothing like it.
    level : float
        The share of steps of new requests that lie within.
    p50_ms, p90_ms, p99_ms : float or ndarray
        What half, 90 % and 99 % of such steps stay below; infinite where too few requests were measured.
    is_inside : bool or ndarray of bool
        Whether steps like it were measured (`llmlat.predict.domain`).
    outside : tuple of str
        What does not, in words.
    """

    ms: Any
    low_ms: Any
    high_ms: Any
    level: float
    p50_ms: Any
    p90_ms: Any
    p99_ms: Any
    is_inside: Any
    outside: tuple[str, ...]


def estimate(
    calibration: Mapping[str, Any], told_ms: Any, held_ms: Any, placed: "Placed", level: float
) -> Estimate:
    """Return the estimate of steps.

    Parameters
    ----------
    calibration : mapping
        As `predictor.json` has it.
    told_ms, held_ms : ndarray of float64, shape (n,)
        What the regressor says, and that or the fastest step that was measured.
    placed : Placed
        Where the steps lie.
    level : float

    Raises
    ------
    KeyError
        Where there are no intervals of this level; its argument says so.
    """
    import numpy as np

    known = _Known(calibration, placed.is_prefill, placed.excess)

    def above(share: Any) -> Any:
        # No latency is 0 or below: where a line runs there, nothing is known.
        scaled = share * np.maximum(held_ms, calibration["least_ms"])
        reached = np.where(np.isinf(share), np.inf, held_ms + scaled)
        return np.where(told_ms > 0, np.maximum(reached, 0.0), np.inf)

    high = above(known.widened("levels", f"{level:g}"))
    median = np.where(np.isinf(placed.excess), np.inf, known.inside("quantiles", "0.5"))
    p90, p99 = (above(known.widened("quantiles", quantile, median)) for quantile in ("0.9", "0.99"))
    return Estimate(
        ms=held_ms,
        low_ms=np.where(np.isinf(high), 0.0, np.maximum(2 * held_ms - high, 0.0)),
        high_ms=high,
        level=level,
        p50_ms=above(median),
        p90_ms=p90,
        p99_ms=p99,
        is_inside=placed.excess == 0,
        outside=placed.words,
    )


@dataclass(frozen=True)
class _Known:
    """What is known of some steps' misses, as shares of their predictions; infinite where nothing is.

    Attributes
    ----------
    calibration : mapping
        As `predictor.json` has it.
    is_prefill : ndarray of bool or None
        None where inputs do not tell: then the wider of both bands is theirs.
    excess : ndarray of float64
        From `llmlat.predict.domain`.
    """

    calibration: Mapping[str, Any]
    is_prefill: Any
    excess: Any

    def inside(self, kind: str, wanted: str) -> Any:
        """Return what the bands of the steps' phases say of a level or a quantile."""
        import numpy as np

        by_phase = self.calibration["by_phase"]
        if self.is_prefill is None:
            widest = max(_infinite(band, kind, wanted) for band in by_phase.values())
            return np.full(self.excess.shape, widest)
        first, later = (_infinite(by_phase.get(phase), kind, wanted) for phase in ("prefill", "decode"))
        return np.where(self.is_prefill, first, later)

    def widened(self, kind: str, wanted: str, around: Any = 0.0) -> Any:
        """Return the same, further from `around` the further outside a step lies."""
        import numpy as np

        inside = self.inside(kind, wanted)
        # Nothing is known better outside than inside.
        outside = np.maximum(inside, _infinite(self.calibration["beyond"], kind, wanted))
        with np.errstate(invalid="ignore"):
            wider = around + (outside - around) * (1.0 + self.excess)
        # No number comes of infinity less infinity, or times 0: nothing is known there.
        unknown = np.isnan(wider) | np.isinf(self.excess)
        return np.where(self.excess == 0, inside, np.where(unknown, np.inf, wider))


def _infinite(band: Mapping[str, Any] | None, kind: str, wanted: str) -> float:
    """Return what a band says of a level, as a share of the prediction; infinity where it is not known."""
    if band is None:
        return float("inf")
    if wanted not in band[kind]:
        raise KeyError(f"level={wanted}: it holds intervals of {', '.join(band[kind])}.")
    share = band[kind][wanted]
    return float("inf") if share is None else float(share)
