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
    is_inside, words = _inside(spec["inputs"], values)
    if outside == "refuse" and words:
        raise OutsideError(f"outside of what was measured: {'; '.join(words)}.")
    predicted, is_inside = np.broadcast_arrays(np.asarray(predicted_ms, dtype=np.float64), is_inside)
    is_prefill = _is_prefill(values, predicted.shape)
    scale = np.maximum(predicted, calibration["least_ms"])

    def offset(kind: str, wanted: str) -> Any:
        by_phase = {phase: _infinite(band[kind], wanted) for phase, band in calibration["by_phase"].items()}
        within = np.where(is_prefill, by_phase.get("prefill", np.inf), by_phase.get("decode", np.inf))
        beyond = _infinite((calibration["beyond"] or {}).get(kind, {wanted: None}), wanted)
        # No band is narrower outside than within: what is unknown is not known better.
        return scale * np.where(is_inside, within, np.maximum(within, beyond))

    half = offset("levels", f"{level:g}")
    quantiles = [np.maximum(predicted + offset("quantiles", q), 0.0) for q in ("0.5", "0.9", "0.99")]
    low, high = np.maximum(predicted - half, 0.0), predicted + half
    p50, p90, p99 = (_plain(quantile) for quantile in quantiles)
    return Estimate(
        ms=_plain(predicted),
        low_ms=_plain(low),
        high_ms=_plain(high),
        level=level,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        is_inside=_plain(is_inside),
        outside=words,
    )


def _plain(values: Any) -> Any:
    return values if values.ndim else values.item()


def _infinite(table: Mapping[str, float | None], wanted: str) -> float:
    if wanted not in table:
        raise KeyError(f"level={wanted}: it holds intervals of {', '.join(table)}.")
    return float("inf") if table[wanted] is None else float(table[wanted])  # type: ignore[arg-type]


def _is_prefill(values: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """Tell first tokens, whose context is the prompt alone; all are later ones where no lengths are given."""
    import numpy as np

    if not {"prompt_tokens", "context_length"} <= set(values):
        return np.zeros(shape, dtype=bool)
    same = np.asarray(values["context_length"]) <= np.asarray(values["prompt_tokens"])
    return np.broadcast_to(same, shape)


def _inside(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    import numpy as np

    is_inside: Any = np.asarray(True)
    words = []
    for name, entry in inputs.items():
        asked = np.asarray(values[name])
        if "values" in entry:
            within = np.isin(asked.astype(str), entry["values"])
            measured = ", ".join(entry["values"])
        elif entry["from"] is None:
            continue
        else:
            numbers = asked.astype(np.float64)
            within = ((numbers >= entry["from"]) & (numbers <= entry["to"])) | np.isnan(numbers)
            measured = f"{entry['from']:g} to {entry['to']:g}"
        if not within.all():
            first = asked.ravel()[np.argmin(within.ravel())]
            words.append(f"{name} {first} (measured: {measured})")
        is_inside = is_inside & within
    return is_inside, tuple(words)
