"""What was measured, and whether a step that is asked about is like it.

A step is inside where four things hold of the steps of its phase that a predictor was fitted on. Each of its
inputs, and its place in the request, lies in their range. Some of them had at least as much of everything at
once, and some at most as much: so a large batch at a short context and a small one at a long context say
nothing of a large one at a long one. Its features have no more leverage than the most that one of theirs had
(Belsley, Kuh and Welsch 1980, *Regression Diagnostics*, section 2.1). And where the regressor is a local one,
such as trees, it lies in no gap between measured values that is wider than those its intervals were tried on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmlat.formulas.formula import as_column, parse
from llmlat.predict.features import Formulas, Values
from llmlat.predict.spec import SpecError, finite, number, numbers

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

PREFILL, DECODE, ALL = "prefill", "decode", "all"
"""What a file says its phases are; all is one of steps whose phase their inputs do not tell."""

ROUNDING = 1e-9
OFF_AXIS = 1e-6
"""How far features may be from every combination that was measured: rounding."""


@dataclass(frozen=True)
class Placed:
    """Where steps lie.

    Attributes
    ----------
    excess : ndarray of float64, shape (n,)
        0 inside; how far beyond in measured ranges, where only the direction is left that intervals beyond
        were calibrated along; infinite anywhere else.
    words : tuple of str
        What lies outside, the furthest step of each kind.
    is_prefill : ndarray of bool, shape (n,), or None
        None where inputs do not tell.
    """

    excess: Floats
    words: tuple[str, ...]
    is_prefill: Flags | None


class Domain:
    """The domain of a predictor's file.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`.

    Raises
    ------
    SpecError
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._inputs = spec["inputs"]
        domain = spec.get("domain") or _ranges_alone(spec)
        names = list(domain["coordinates"])
        self._coordinates = Formulas(domain["coordinates"], self._inputs, {})
        self._together = Formulas(domain["together"], self._inputs, {})
        self._phase = parse(domain["phase"]) if domain["phase"] else None
        along = np.isin(names, domain["along"])
        self._follow = [not _is_said(self._inputs.get(name)) for name in names]
        self._names, self._at = names, [names.index(name) for name in domain.get("leverage_with", [])]
        self._phases = {
            phase: _Measured(entry, names, list(domain["together"]), along)
            for phase, entry in domain["phases"].items()
        }

    def is_prefill(self, values: Values, n: int) -> Flags | None:
        """Return which steps are prefill; None where their inputs do not tell."""
        if self._phase is None:
            return None
        flags: Flags = np.broadcast_to(self._phase(dict(values)) != 0, n)
        return flags

    def fastest_ms(self, values: Values, n: int) -> Any:
        """Return the fastest step that was measured of each step's phase; of any, where none was of its."""
        known = {phase: measured.fastest_ms for phase, measured in self._phases.items()}
        of_any = min(known.values(), default=0.0)
        is_prefill = self.is_prefill(values, n)
        if is_prefill is None:
            return of_any
        return np.where(is_prefill, known.get(PREFILL, of_any), known.get(DECODE, of_any))

    def place(self, values: Values, features: Floats) -> Placed:
        """Return where steps lie.

        Parameters
        ----------
        values : mapping
            Every input: for each step, or one for all.
        features : ndarray of float64, shape (n, n_features)
        """
        n = len(features)
        coordinates, together = self._coordinates.columns(values, n), self._together.columns(values, n)
        lever = np.column_stack([features, coordinates[:, self._at]])
        excess, words = np.zeros(n), []
        for phase, here in self._by_phase(values, n):
            if phase not in self._phases:
                excess[here] = np.inf
                words.append(_Said(f"{phase} steps (measured: {', '.join(self._phases)})"))
                continue
            found = self._phases[phase].place(coordinates[here], together[here], lever[here])
            excess[here] = found.excess
            words += [_Said(text, self._follow[k]) for k, text in found.ranges] + list(
                map(_Said, found.words)
            )
        for name, entry in self._inputs.items():
            strange = np.broadcast_to(_strange(values[name], entry), n)
            if strange.any():
                excess[strange] = np.inf
                words.append(_Said(_words_of(name, entry, values[name], strange)))
        return Placed(excess, _told(words), self.is_prefill(values, n))

    def _by_phase(self, values: Values, n: int) -> list[tuple[str, Flags]]:
        is_prefill = self.is_prefill(values, n)
        if is_prefill is None:
            return [(ALL, np.ones(n, dtype=bool))]
        return [(phase, here) for phase, here in ((PREFILL, is_prefill), (DECODE, ~is_prefill)) if here.any()]


@dataclass(frozen=True)
class _Said:
    """Words on what lies outside, and whether it only follows from something else."""

    text: str
    follows: bool = False


@dataclass(frozen=True)
class _Found:
    excess: Floats
    ranges: list[tuple[int, str]]
    words: list[str]


class _Measured:
    """What was measured of one phase."""

    def __init__(self, entry: Mapping[str, Any], names: list[str], together: list[str], along: Flags) -> None:
        self._names, self._along = names, along
        self._joint_names = together
        self.fastest_ms = number(entry, "fastest_ms")
        # An input of which no number was seen has no range.
        self._low = numbers(entry, "from", len(names), null=-np.inf)
        self._high = numbers(entry, "to", len(names), null=np.inf)
        self._slack = number(entry, "slack") * _spans(self._low, self._high, names, together)
        self._most, self._least = (_points(entry, name, len(together)) for name in ("most", "least"))
        self._clips = [names.index(name) if name in names else None for name in together]
        self._gaps = {names.index(name): gaps for name, gaps in (entry.get("gaps") or {}).items()}
        self._leverage = _Leverage(entry["leverage"]) if entry.get("leverage") else None

    def place(self, coordinates: Floats, together: Floats, lever: Floats) -> _Found:
        known = np.where(np.isnan(coordinates), self._low, coordinates)
        over, under = self._beyond(known - self._high), self._beyond(self._low - known)
        apart = self._apart(np.nan_to_num(together, nan=0.0))
        levered = self._leverage.outside(lever) if self._leverage else np.zeros(len(known), dtype=bool)
        ranged = np.maximum(over, under)
        gapped = self._in_gaps(known)
        is_outside = (ranged > 0).any(axis=1) | apart | levered | gapped.any(axis=1)
        excess = np.where(is_outside, np.inf, 0.0)
        is_beyond = self._is_beyond(over, under, together, gapped) & is_outside
        excess[is_beyond] = over[is_beyond].max(axis=1)
        ranges = [(k, self._range(k, coordinates, ranged)) for k in np.flatnonzero((ranged > 0).any(axis=0))]
        words = [self._gap(k, known, gapped) for k in np.flatnonzero(gapped.any(axis=0))]
        in_range = ~(ranged > 0).any(axis=1)
        if (apart & in_range).any():
            words.append(self._together(together[apart & in_range][0]))
        elif (levered & in_range).any():
            words.append("its features together (measured: each, but no step like this)")
        return _Found(excess, ranges, words)

    def _is_beyond(self, over: Floats, under: Floats, together: Floats, gapped: Flags) -> Flags:
        """Whether all that is outside is beyond along the calibrated direction."""
        if not self._along.any():
            return np.zeros(len(over), dtype=bool)
        only = (over[:, self._along] > 0).any(axis=1) & (over[:, ~self._along] == 0).all(axis=1)
        clipped = together.copy()
        for k, at in enumerate(self._clips):
            if at is not None and self._along[at]:
                clipped[:, k] = np.minimum(clipped[:, k], self._high[at])
        only &= (under == 0).all(axis=1) & ~gapped.any(axis=1)
        flags: Flags = only & ~self._apart(np.nan_to_num(clipped, nan=0.0))
        return flags

    def _beyond(self, distance: Floats) -> Floats:
        """Return distances as shares of the measured ranges; infinite where one value was measured."""
        span = self._high - self._low
        allowed = ROUNDING * np.maximum(np.abs(self._low), np.abs(self._high))
        beyond = np.where(distance > np.where(np.isfinite(allowed), allowed, 0.0), distance, 0.0)
        shares = np.divide(beyond, span, out=np.full_like(beyond, np.inf), where=span > 0)
        return np.where(beyond > 0, shares, 0.0)

    def _apart(self, steps: Floats) -> Flags:
        """Whether no measured step had as much of everything at once, or none as little."""
        flags: Flags = _none(self._most, steps, self._slack, 1.0) | _none(
            self._least, steps, self._slack, -1.0
        )
        return flags

    def _in_gaps(self, known: Floats) -> Flags:
        gapped = np.zeros(known.shape, dtype=bool)
        for k, gaps in self._gaps.items():
            for low, high in gaps:
                gapped[:, k] |= (known[:, k] > low) & (known[:, k] < high)
        return gapped

    def _range(self, k: int, coordinates: Floats, ranged: Floats) -> str:
        worst = coordinates[np.argmax(ranged[:, k]), k]
        return f"{self._names[k]} {_spelled(worst)} (measured: {self._low[k]:g} to {self._high[k]:g})"

    def _gap(self, k: int, known: Floats, gapped: Flags) -> str:
        value = known[np.argmax(gapped[:, k]), k]
        low, high = next((low, high) for low, high in self._gaps[k] if low < value < high)
        return f"{self._names[k]} {_spelled(value)} (measured: nothing near, between {low:g} and {high:g})"

    def _together(self, step: Floats) -> str:
        said = []
        for name, value in zip(self._joint_names, step, strict=True):
            text, _, level = name.partition("=")
            if not level:
                said.append(f"{name} {_spelled(value)}")
            elif value:
                said.append(f"{text} {level}")
        return f"{' with '.join(said)} (measured: each, but not together)"


class _Leverage:
    def __init__(self, entry: Mapping[str, Any]) -> None:
        self._mean = numbers(entry, "mean")
        self._scale = numbers(entry, "scale", len(self._mean))
        self._axes = _points(entry, "axes", len(self._mean))
        self._never = _points(entry, "never", len(self._mean))
        if not self._scale.all():
            raise SpecError("leverage: a scale is 0")

    def outside(self, lever: Floats) -> Flags:
        scaled = (np.where(np.isnan(lever), self._mean, lever) - self._mean) / self._scale
        with np.errstate(all="ignore"):
            leverage = np.square(scaled @ self._axes.T).sum(axis=1)
            off = np.abs(scaled @ self._never.T).max(axis=1, initial=0.0)
            size = np.maximum(np.abs(scaled).max(axis=1, initial=0.0), 1.0)
            flags: Flags = ~((leverage <= 1.0 + ROUNDING) & (off <= OFF_AXIS * size))
        return flags


def _none(points: Floats, steps: Floats, slack: Floats, sign: float) -> Flags:
    """Whether no point is, in every direction, at least (or at most) what a step is."""
    is_left = np.zeros(len(steps), dtype=bool)
    if not len(points) or not points.shape[1]:
        return is_left
    left = np.arange(len(steps))
    for point in points:
        left = left[(sign * (steps[left] - point) > slack).any(axis=1)]
        if not len(left):
            break
    is_left[left] = True
    return is_left


def _spans(low: Floats, high: Floats, names: list[str], together: list[str]) -> Floats:
    span = dict(zip(names, high - low, strict=True))
    return np.array([span.get(name, 1.0) + ROUNDING for name in together])


def _points(entry: Mapping[str, Any], name: str, width: int) -> Floats:
    rows = [numbers({name: row}, name, width) for row in entry.get(name) or []]
    return np.array(rows).reshape(len(rows), width)


def _strange(value: Any, entry: Mapping[str, Any]) -> Any:
    """Whether a text was not measured, or a number is missing that never was."""
    if "values" in entry:
        return ~np.isin(np.asarray(value).astype(str), entry["values"])
    return np.zeros((), dtype=bool) if entry.get("missing") else np.isnan(np.asarray(value, dtype=np.float64))


def _words_of(name: str, entry: Mapping[str, Any], value: Any, strange: Flags) -> str:
    one = np.broadcast_to(value, len(strange))[np.argmax(strange)]
    if "values" in entry:
        return f"{name} {one} (measured: {', '.join(entry['values'])})"
    known = entry["from"] is not None
    return f"{name} is missing" + (f" (measured: {entry['from']:g} to {entry['to']:g})" if known else "")


def _told(words: list[_Said]) -> tuple[str, ...]:
    # What follows from other inputs is outside with them as a rule, and need not be said again.
    said = [one.text for one in words if not one.follows] or [one.text for one in words]
    return tuple(dict.fromkeys(said))


def _spelled(value: Any) -> str:
    return f"{int(value)}" if float(value).is_integer() else f"{value:g}"


def _is_said(entry: Any) -> bool:
    return isinstance(entry, Mapping) and not isinstance(entry.get("default"), Mapping)


def _ranges_alone(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the domain of a file that holds ranges only, such as a formula's."""
    ranges = {name: entry for name, entry in spec["inputs"].items() if entry.get("from") is not None}
    low, high = ([finite(entry[end], end) for entry in ranges.values()] for end in ("from", "to"))
    whole = {"fastest_ms": 0.0, "from": low, "to": high, "slack": 0.0}
    lengths = {"prompt_tokens", "context_length"} <= set(spec["inputs"])
    return {
        "phase": "context_length <= prompt_tokens" if lengths else None,
        "coordinates": {name: as_column(name) for name in ranges},
        "together": {},
        "along": [],
        "phases": dict.fromkeys((PREFILL, DECODE) if lengths else (ALL,), whole),
    }
