"""A prediction with what is known of its misses, and whether anything like it was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmlat.errors import LlmlatError


class OutsideError(LlmlatError):
    """A step outside of what was measured, where the answer was to be refused."""


@dataclass(frozen=True)
class Estimate:
    """How long a step takes, and how far off that may be; arrays where arrays of steps were asked for.

    Each interval is of one step. Steps of one request are off the same way, so of a sum over them neither
    ends nor quantiles can be had as of independent ones.

    Attributes
    ----------
    ms : float or ndarray
        The prediction.
    low_ms, high_ms : float or ndarray
        The interval; from 0 to infinity where too few requests were measured to tell.
    level : float
        The share of steps of new requests that lie within.
    p50_ms, p90_ms, p99_ms : float or ndarray
        What half, 90 % and 99 % of such steps stay below; infinite where too few requests were measured.
    is_inside : bool or ndarray of bool
        Whether every input lies within what was measured.
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
    spec: Mapping[str, Any], values: Mapping[str, Any], predicted_ms: Any, level: float, outside: str
) -> Estimate:
    """Return a prediction's estimate.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`.
    values : mapping
        Every input of the steps.
    predicted_ms : float or ndarray
    level : float
    outside : {'widen', 'refuse'}

    Raises
    ------
    KeyError
        Where the file holds no intervals, or not of this level; its argument says so.
    OutsideError
    """
    import numpy as np

    calibration = spec.get("calibration")
    if not calibration:
        raise KeyError(f"it holds no intervals ({spec.get('calibration_reason') or 'none were calibrated'}).")
    if outside not in ("widen", "refuse"):
        raise KeyError(f"outside={outside}: use widen or refuse.")
    excess, words = _excess(spec["inputs"], values)
    if outside == "refuse" and words:
        raise OutsideError(f"outside of what was measured: {'; '.join(words)}.")
    predicted, excess = np.broadcast_arrays(np.asarray(predicted_ms, dtype=np.float64), excess)
    known = _Known(calibration, _is_prefill(values, predicted.shape), excess)

    def above(share: Any) -> Any:
        # No latency is 0 or below: where a line runs there, nothing is known.
        scaled = share * np.maximum(predicted, calibration["least_ms"])
        return np.where(predicted > 0, np.maximum(predicted + scaled, 0.0), np.inf)

    high, median = above(known.widened("levels", f"{level:g}")), known.inside("quantiles", "0.5")
    p90, p99 = (above(known.widened("quantiles", quantile, median)) for quantile in ("0.9", "0.99"))
    return Estimate(
        ms=_plain(predicted),
        low_ms=_plain(np.maximum(2 * predicted - high, 0.0)),
        high_ms=_plain(high),
        level=level,
        p50_ms=_plain(above(median)),
        p90_ms=_plain(p90),
        p99_ms=_plain(p99),
        is_inside=_plain(excess == 0),
        outside=words,
    )


@dataclass(frozen=True)
class _Known:
    """What is known of some steps' misses, as shares of their predictions; infinite where nothing is.

    Attributes
    ----------
    calibration : mapping
        As `predictor.json` has it.
    is_prefill : ndarray of bool
    excess : ndarray of float64
        From `_excess`.
    """

    calibration: Mapping[str, Any]
    is_prefill: Any
    excess: Any

    def inside(self, kind: str, wanted: str) -> Any:
        """Return what the bands of the steps' phases say of a level or a quantile."""
        import numpy as np

        by_phase = self.calibration["by_phase"]
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
        return np.where(self.excess == 0, inside, np.where(np.isnan(wider), np.inf, wider))


def _plain(values: Any) -> Any:
    return values if values.ndim else values.item()


def _infinite(band: Mapping[str, Any] | None, kind: str, wanted: str) -> float:
    """Return what a band says of a level, as a share of the prediction; infinity where it is not known."""
    if band is None:
        return float("inf")
    if wanted not in band[kind]:
        raise KeyError(f"level={wanted}: it holds intervals of {', '.join(band[kind])}.")
    share = band[kind][wanted]
    return float("inf") if share is None else float(share)


def _is_prefill(values: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """Tell first tokens, whose context is the prompt alone; all are later ones where no lengths are given."""
    import numpy as np

    if not {"prompt_tokens", "context_length"} <= set(values):
        return np.zeros(shape, dtype=bool)
    same = np.asarray(values["context_length"]) <= np.asarray(values["prompt_tokens"])
    return np.broadcast_to(same, shape)


def _excess(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Return how far outside steps lie, in measured ranges of the input that is furthest out; and in words.

    0 is inside. It is infinite for a text that was not measured, and where only one value was.
    """
    import numpy as np

    furthest: Any = np.asarray(0.0)
    words: list[str] = []
    following: list[str] = []
    for name, entry in inputs.items():
        asked = np.asarray(values[name])
        if "values" in entry:
            excess = np.where(np.isin(asked.astype(str), entry["values"]), 0.0, np.inf)
            measured = ", ".join(entry["values"])
        elif entry["from"] is None:
            continue
        else:
            excess = _ranges_beyond(asked.astype(np.float64), entry["from"], entry["to"])
            measured = f"{entry['from']:g} to {entry['to']:g}"
        if excess.any():
            said = following if isinstance(entry.get("default"), Mapping) else words
            said.append(f"{name} {asked.ravel()[np.argmax(excess.ravel())]} (measured: {measured})")
        furthest = np.maximum(furthest, excess)
    # What follows from other inputs is outside with them as a rule, and need not be said again.
    return furthest, tuple(words or following)


def _ranges_beyond(asked: Any, low: float, high: float) -> Any:
    import numpy as np

    beyond = np.nan_to_num(np.maximum(np.maximum(low - asked, asked - high), 0.0))
    if high > low:
        return beyond / (high - low)
    return np.where(beyond > 0, np.inf, 0.0)
