"""What a predictor's file must hold, looked at before anything is made of it."""

from collections.abc import Iterable, Mapping
from typing import Any

from llmlat.predict.spec import SpecError, finite, function_in, number

PHASES = ("prefill", "decode")
ENDS = ("from", "to")


def check_spec(spec: Mapping[str, Any]) -> None:
    """Refuse what is no predictor.

    Parameters
    ----------
    spec : mapping
        The content of `predictor.json`.

    Raises
    ------
    SpecError
        Naming what is missing, or is something else.
    """
    _strings([spec.get("kind")], "kind")
    for name, entry in _mapping(spec, "inputs").items():
        _input(entry, name[:40])
    if not _mapping(spec, "features"):
        raise SpecError("features: there are none")
    for name, entry in spec["features"].items():
        _held(entry, f"features.{name[:40]}", ("missing",))
        _strings([entry.get("formula") or ""], f"features.{name[:40]}.formula")
    _strings(_mapping(spec, "derived", optional=True).values(), "derived")
    if spec.get("floor_ms") is not None:
        number(spec, "floor_ms")
    if spec["kind"] == "linear":
        function_in(spec)
    elif not isinstance(spec.get("function"), Mapping):
        raise SpecError("function: there is none")
    if spec.get("calibration") is not None:
        _calibration(_mapping(spec, "calibration"))
    if spec.get("domain") is not None:
        _domain(_mapping(spec, "domain"))


def _input(entry: Any, name: str) -> None:
    default = _mapping({name: entry}, name).get("default")
    if "values" in entry:
        _strings(_list(entry, "values"), f"inputs.{name}.values")
    else:
        low, high = (entry[end] for end in ENDS)
        if (low is None) != (high is None) or (low is not None and finite(low, "from") > finite(high, "to")):
            raise SpecError(f"inputs.{name}: from {low} to {high} is no range")
    if isinstance(default, Mapping):
        _strings([default.get("formula")], f"inputs.{name}.default")
        _held(default["constants"], f"inputs.{name}.default", default["constants"])
    elif "values" in entry:
        _strings([default or ""], f"inputs.{name}.default")
    elif default is not None:
        finite(default, f"inputs.{name}.default")


def _calibration(calibration: Mapping[str, Any]) -> None:
    number(calibration, "least_ms")
    bands = [*_mapping(calibration, "by_phase").items(), ("beyond", calibration["beyond"])]
    for name, band in bands:
        if name not in (*PHASES, "beyond"):
            raise SpecError(f"calibration: there is no phase {name[:40]}")
        if band is not None:
            for kind in ("levels", "quantiles"):
                _held(_mapping(band, kind), f"calibration.{name}.{kind}", band[kind])
    if not calibration["by_phase"]:
        raise SpecError("calibration: it is of no phase")


def _domain(domain: Mapping[str, Any]) -> None:
    coordinates, together = _mapping(domain, "coordinates"), _mapping(domain, "together")
    _strings([*coordinates.values(), *together.values(), domain["phase"] or ""], "domain")
    for known, names in (("along", domain["along"]), ("leverage_with", domain["leverage_with"])):
        if not isinstance(names, list) or not set(names) <= set(coordinates):
            raise SpecError(f"domain.{known}: they are no coordinates")
    phases = _mapping(domain, "phases")
    if not phases or not (set(phases) <= set(PHASES) if domain["phase"] else set(phases) == {"all"}):
        raise SpecError("domain: its phases are none")
    for entry in phases.values():
        _held(entry, "domain", ("fastest_ms", "slack"), optional=False)
        for end in ENDS:
            _points([entry[end]], len(coordinates), optional=True)
        for points in ("most", "least"):
            _points(_list(entry, points), len(together))
        for name, gaps in _mapping(entry, "gaps", optional=True).items():
            if name not in coordinates:
                raise SpecError(f"domain.gaps: {name[:40]} is no coordinate")
            _points(gaps, 2)
        if entry.get("leverage") is not None:
            leverage = _mapping(entry, "leverage")
            width = len(_list(leverage, "mean"))
            _points([leverage["mean"], leverage["scale"], *leverage["axes"], *leverage["never"]], width)
            if not all(leverage["scale"]):
                raise SpecError("domain.leverage: a scale is 0")


def _mapping(holder: Any, name: str, optional: bool = False) -> Mapping[str, Any]:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    if value is None and optional:
        return {}
    if not isinstance(value, Mapping):
        raise SpecError(f"{name}: there is none")
    return value


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    value = holder.get(name)
    if not isinstance(value, list):
        raise SpecError(f"{name}: it is no list")
    return value


def _strings(values: Iterable[Any], name: str) -> None:
    if not all(isinstance(value, str) for value in values):
        raise SpecError(f"{name}: it is no text")


def _held(holder: Any, name: str, members: Iterable[str], optional: bool = True) -> None:
    for member in members:
        value = _mapping({name: holder}, name).get(member)
        if value is not None or not optional:
            finite(value, f"{name}.{member}")


def _points(points: Any, width: int, optional: bool = False) -> None:
    for point in points:
        if not isinstance(point, list) or len(point) != width:
            raise SpecError("domain: a point is not of all coordinates")
        for value in point:
            if value is not None or not optional:
                finite(value, "domain")
