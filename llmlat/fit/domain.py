"""What of the training rows says where a predictor was fitted: its domain, as `predictor.json` holds it.

`llmlat.predict.domain` says what is inside. How strict that is, groups that are left out decide, as they do
how wide an interval is: most of them are inside by the others, and whoever asks for steps as far from the
measured ones as theirs are is answered by the same right.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.config import SplitConfig, SplitName
from llmlat.errors import ConfigError
from llmlat.fit.split import split_rows
from llmlat.fit.uncertainty.calibration import BEYOND
from llmlat.formulas.formula import as_column, parse
from llmlat.predict.domain import ALL
from llmlat.records import BEFORE, DECODE, PREFILL, SERVED, TARGET, TELEMETRY

Floats = npt.NDArray[np.float64]
Rows = Mapping[str, Any]

PHASE_TOLD = (
    "phase == 'prefill'",
    "is_prefill != 0",
    "context_length <= prompt_tokens",
    "token_index == 0",
    "prefill_tokens > 0",
)
"""What may tell a step's phase; the first that can be worked out, and agrees with the rows, does."""

TOKEN_INDEX = "token_index"
ALONE = {column.name for column in (*TELEMETRY, *SERVED, *BEFORE)}
"""Inputs that are looked at one by one: the state of a machine comes in no combinations that anyone chose."""

MAX_POINTS = 200
MAX_LEVERED = 64  # columns: beyond, the file would hold their products
MAX_GROUPS = 500  # that are left out in turn
AT_ONCE = 1 << 20  # numbers that are worked on together
INSIDE = 0.9  # the share of groups left out that are inside by the others
WIDE = 10.0  # times the smallest: lengths that go this far are apart as ratios, and not as differences


def domain_of(
    rows: pd.DataFrame, inputs: Mapping[str, Any], features: Floats, group: str, *, is_local: bool
) -> dict[str, Any]:
    """Return the domain of rows.

    Parameters
    ----------
    rows : DataFrame
        The training rows, with their latencies.
    inputs : mapping
        `inputs` of `predictor.json`.
    features : ndarray of float64, shape (n_rows, n_features)
        As the regressor sees them, in their units.
    group : str
        The column whose values calibration held out whole.
    is_local : bool
        Whether the regressor says nothing between measured values, as trees do not.
    """
    values = {name: _values(rows[name]) for name in inputs}
    phase = _told_phase(values, rows)
    is_prefill = None if phase is None else parse(phase)(values) != 0
    coordinates = _coordinates(inputs, values)
    together = {name: text for name, text in coordinates.items() if _is_free(name, inputs, values)}
    together |= _levels(inputs)
    known = np.column_stack(
        [parse(text)(values) for text in coordinates.values()] or [np.empty((len(rows), 0))]
    )
    joint = np.column_stack([parse(text)(values) for text in together.values()] or [np.empty((len(rows), 0))])
    leverage_with = [TOKEN_INDEX] if TOKEN_INDEX in coordinates else []
    at = [list(coordinates).index(name) for name in leverage_with]
    measured = _Measured(list(coordinates), known, joint, list(together), np.hstack([features, known[:, at]]))
    groups, latency = rows[group].to_numpy(), rows[TARGET].to_numpy(dtype=np.float64)
    here = {ALL: np.ones(len(rows), dtype=bool)}
    if is_prefill is not None:
        here = {PREFILL: is_prefill, DECODE: ~is_prefill}
    return {
        "phase": phase,
        "coordinates": coordinates,
        "together": together,
        "along": _along(rows, list(coordinates), known),
        "leverage_with": leverage_with,
        "phases": {
            name: {"fastest_ms": float(latency[part].min()), **measured.of(part, groups, is_local=is_local)}
            for name, part in here.items()
            if part.any()
        },
    }


class _Measured:
    def __init__(
        self, names: list[str], known: Floats, joint: Floats, joint_names: list[str], lever: Floats
    ) -> None:
        self._names, self._known, self._joint, self._lever = names, known, joint, lever
        self._joint_names = joint_names

    def of(self, part: npt.NDArray[np.bool_], groups: Any, *, is_local: bool) -> dict[str, Any]:
        """Return what was measured in some of the rows."""
        known, joint = self._known[part], np.nan_to_num(self._joint[part])
        low, high = np.nanmin(known, axis=0, initial=np.inf), np.nanmax(known, axis=0, initial=-np.inf)
        own = groups[part]
        span = dict(zip(self._names, high - low, strict=True))
        spans = np.array([span.get(name, 1.0) for name in self._joint_names])
        most, least = _front(joint, 1.0), _front(joint, -1.0)
        is_seen = np.isfinite(low)
        columns = dict(zip(self._names, known.T, strict=True))
        chosen = {name: column for name, column in columns.items() if name in self._joint_names}
        return {
            "n_steps": int(part.sum()),
            "from": [float(value) if seen else None for value, seen in zip(low, is_seen, strict=True)],
            "to": [float(value) if seen else None for value, seen in zip(high, is_seen, strict=True)],
            "slack": _slack(joint, own, spans, most, least),
            "most": most.tolist(),
            "least": least.tolist(),
            "leverage": _leverage(self._lever[part]),
            "gaps": _gaps(chosen, own) if is_local else {},
        }


def _values(column: pd.Series) -> Any:
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.astype(object).where(column.notna(), "nan").astype(str).to_numpy(dtype=object)


def _told_phase(values: Rows, rows: pd.DataFrame) -> str | None:
    if "phase" not in rows:
        return None
    is_prefill = (rows["phase"] == PREFILL).to_numpy()
    for text in PHASE_TOLD:
        is_known = set(parse(text).names) <= set(values)
        if is_known and np.array_equal(parse(text)(values) != 0, is_prefill):
            return text
    return None


def _coordinates(inputs: Mapping[str, Any], values: Rows) -> dict[str, str]:
    """Return the numbers that say where a step lies, and how far into its request it is."""
    numbers = {name: as_column(name) for name, entry in inputs.items() if "values" not in entry}
    if {"prompt_tokens", "context_length"} <= set(numbers) and TOKEN_INDEX not in inputs:
        numbers[TOKEN_INDEX] = "context_length - prompt_tokens"
    return numbers


def _is_free(name: str, inputs: Mapping[str, Any], values: Rows) -> bool:
    """Whether an input is chosen: it varies, and neither follows from others nor is the machine's state."""
    if name not in inputs:
        return True
    varies = len(np.unique(values[name][~np.isnan(values[name])])) > 1
    return varies and name not in ALONE and not isinstance(inputs[name].get("default"), Mapping)


def _levels(inputs: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: entry["values"] for name, entry in inputs.items() if "values" in entry}
    return {
        f"{name}={value}": f"{as_column(name)} == {value!r}"
        for name, known in texts.items()
        for value in known
        if 1 < len(known) <= MAX_LEVERED
    }


def _along(rows: pd.DataFrame, names: list[str], known: Floats) -> list[str]:
    """Return the coordinates that grew beyond the rest where calibration held out the longest contexts."""
    try:
        near, far = split_rows(rows, SplitConfig(SplitName.extrapolate, BEYOND))
    except ConfigError:
        return []
    beyond = (known[far] > np.nanmax(known[near], axis=0, initial=-np.inf)).mean(axis=0)
    return [name for name, share in zip(names, beyond, strict=True) if share >= 0.5]


def _front(joint: Floats, sign: float) -> Floats:
    """Return the rows that no other has as much of everything as; the farthest out, of many."""
    if not joint.shape[1]:
        return np.empty((0, 0))
    left = np.unique(sign * joint, axis=0)
    span = np.maximum(np.ptp(left, axis=0), np.finfo(np.float64).tiny)
    left = left[np.argsort(-((left - left.min(axis=0)) / span).sum(axis=1), kind="stable")]
    kept: list[Floats] = []
    while len(left) and len(kept) < MAX_POINTS:
        kept.append(left[0])
        left = left[~(left <= left[0]).all(axis=1)]
    return sign * np.array(kept)


def _slack(joint: Floats, groups: Any, spans: Floats, most: Floats, least: Floats) -> float:
    """Return by how much of the ranges groups that are left out lie beyond the others."""
    if not joint.shape[1] or not len(joint):
        return 0.0
    spans = np.maximum(spans, np.finfo(np.float64).tiny)
    thinned = 0.0
    if MAX_POINTS in (len(most), len(least)):  # by so much the rest may lie beyond what was kept
        thinned = max(_short(joint, most, spans, 1.0).max(), _short(joint, least, spans, -1.0).max())
    names, own = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(0).permutation(len(names))[:MAX_GROUPS]
    ends = {k: _ends(joint[own == k]) for k in drawn}
    found = [one for k in drawn if (one := _left_out(k, ends, spans)) is not None]
    return float(max(np.quantile(found, INSIDE, method="lower") if found else 0.0, thinned))


def _ends(rows: Floats) -> tuple[Floats, Floats]:
    return _front(rows, 1.0), _front(rows, -1.0)


def _left_out(k: int, ends: Mapping[int, tuple[Floats, Floats]], spans: Floats) -> float | None:
    """Return how far a group lies beyond the others; None where it is out of their ranges, and so beyond."""
    others = [both for other, both in ends.items() if other != k]
    if not others:
        return None
    most, least = (np.vstack([both[way] for both in others]) for way in (0, 1))
    own_most, own_least = ends[k]
    if (own_most.max(axis=0) > most.max(axis=0)).any() or (own_least.min(axis=0) < least.min(axis=0)).any():
        return None
    return float(max(_short(own_most, most, spans, 1.0).max(), _short(own_least, least, spans, -1.0).max()))


def _short(steps: Floats, points: Floats, spans: Floats, sign: float) -> Floats:
    """Return by what share of the ranges the nearest point falls short of each step."""
    shortest = np.full(len(steps), np.inf)
    at_once = max(AT_ONCE // (len(steps) * len(spans)), 1)
    for start in range(0, len(points), at_once):
        beyond = sign * (steps[:, None] - points[None, start : start + at_once]) / spans
        shortest = np.minimum(shortest, np.maximum(beyond, 0.0).max(axis=2).min(axis=1))
    return shortest


def _leverage(lever: Floats) -> dict[str, Any] | None:
    """Return axes along which the rows' leverage is at most 1, and directions that none of them varies in."""
    n, width = lever.shape
    if not 0 < width <= MAX_LEVERED or n < 2:
        return None
    known = np.where(np.isnan(lever), np.nanmedian(np.where(np.isinf(lever), np.nan, lever), axis=0), lever)
    known = np.nan_to_num(known)
    is_constant = np.ptp(known, axis=0) == 0
    mean = np.where(is_constant, known[0], known.mean(axis=0))
    scale = np.where(is_constant, np.maximum(np.abs(known[0]), 1.0), known.std(axis=0))
    _, sizes, axes = np.linalg.svd((known - mean) / scale, full_matrices=n < width)
    sizes = np.concatenate([sizes, np.zeros(width - len(sizes))])
    is_told = sizes > 1e-7 * max(sizes.max(initial=0.0), 1.0)
    told = axes[is_told] / sizes[is_told, None]
    largest = float(np.square(((known - mean) / scale) @ told.T).sum(axis=1).max(initial=0.0))
    return {
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "axes": (told / np.sqrt(largest or 1.0)).tolist(),
        "never": axes[~is_told].tolist(),
    }


def _gaps(known: Mapping[str, Floats], groups: Any) -> dict[str, list[list[float]]]:
    """Return where, of each coordinate, nothing was measured for further than groups left out were apart."""
    return {name: gaps for name, column in known.items() if (gaps := _gaps_of(column, groups))}


def _gaps_of(column: Floats, groups: Any) -> list[list[float]]:
    is_known = np.isfinite(column)
    frame = pd.DataFrame({"value": column[is_known], "group": groups[is_known]}).drop_duplicates()
    owners = frame.groupby("value")["group"].agg(["nunique", "first"])  # sorted by value
    values = owners.index.to_numpy(dtype=np.float64)
    if len(values) < 2:
        return []
    is_ratio = values[0] > 0 and values[-1] > WIDE * values[0]
    at = np.log(values) if is_ratio else values
    apart = _to_others(at, pd.factorize(owners["first"])[0])
    apart = np.where(owners["nunique"] > 1, 0.0, apart)
    told = apart[np.isfinite(apart)]
    bridged = float(np.quantile(told, INSIDE, method="higher")) if len(told) else 0.0
    low, high = values[:-1], values[1:]
    factor = np.exp(bridged)
    ends = np.column_stack([low * factor, high / factor] if is_ratio else [low + bridged, high - bridged])
    is_whole = bool((values % 1 == 0).all())
    is_gap = (np.ceil(ends[:, 1]) - np.floor(ends[:, 0]) > 1) if is_whole else (ends[:, 1] > ends[:, 0])
    wide = np.flatnonzero(is_gap & (ends[:, 1] > ends[:, 0]))
    widest = wide[np.argsort(ends[wide, 0] - ends[wide, 1], kind="stable")][:MAX_POINTS]
    gaps: list[list[float]] = ends[np.sort(widest)].tolist()
    return gaps


def _to_others(at: Floats, owner: npt.NDArray[np.int64]) -> Floats:
    """Return how far each value is from the nearest of another group; infinite where one side has none."""
    border = np.flatnonzero(np.diff(owner)) + 1
    starts, ends = np.concatenate([[0], border]), np.concatenate([border, [len(at)]])
    run = np.searchsorted(starts, np.arange(len(at)), side="right") - 1
    padded = np.concatenate([[-np.inf], at, [np.inf]])
    below, above = at - padded[starts[run]], padded[ends[run] + 1] - at
    nearest: Floats = np.where(np.isinf(below) | np.isinf(above), np.inf, np.minimum(below, above))
    return nearest
