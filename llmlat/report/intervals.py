"""How far off a prediction may be, in words and tables."""

from collections.abc import Mapping
from typing import Any

from llmlat.report import wording
from llmlat.report.error_tables import LABEL
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, NBSP, count, counted, is_number, listed, number, percent, sentence

Metrics = Mapping[str, Any]
UNITS = {"request_id": "request", "prompt_id": "prompt"}


def words(metrics: Metrics) -> list[str]:
    """Say how the intervals were made, whether they held, and how wide they are."""
    calibration = metrics.get("calibration")
    if not calibration:
        reason = metrics.get("calibration_reason") or "the rows do not allow it"
        return [f"How far off a prediction may be cannot be told: {sentence(reason)}"]
    unit = unit_of(metrics)
    made = (
        f"Intervals come from what fits missed on {unit}s never seen, {unit} by {unit}: tokens of "
        f"one {unit} are alike, and bands made row by row are too narrow for the next {unit}."
    )
    return [made, *filter(None, (_held(metrics, unit), _unknown(calibration, unit)))]


def _held(metrics: Metrics, unit: str) -> str:
    tried = metrics.get("coverage")
    if not tried or not is_number(tried["median_relative_width"]):
        return ""  # an infinite one holds all, which says nothing
    return (
        f"Tried on {counted(tried['n_groups'], unit)} that had no part in it, the "
        f"{spelled_level(tried['level'])} interval held {percent(tried['coverage'])} of their tokens. Few "
        f"{unit}s tell that share roughly."
    )


def _unknown(calibration: Mapping[str, Any], unit: str) -> str:
    band = max(calibration["by_phase"].values(), key=lambda each: each["n_groups"])
    unknown = [spelled_level(level) for level, share in band["levels"].items() if share is None]
    if not unknown:
        return ""
    return (
        f"Calibrated on {counted(band['n_groups'], unit)}, which are too few for intervals of "
        f"{listed(unknown)}: those are infinite, and not made up."
    )


def bands(metrics: Metrics) -> Table | None:
    """Lay out how far intervals reach, as shares of the prediction, inside what was measured and beyond."""
    calibration = metrics.get("calibration")
    if not calibration:
        return None
    named = [(wording.PHASES.get(k, k), band) for k, band in calibration["by_phase"].items()]
    if calibration["beyond"]:
        named.append(("contexts longer than measured", calibration["beyond"]))
    levels = list(named[0][1]["levels"])
    rows = tuple(
        (name, count(band["n_groups"]), *(_share(band["levels"][level]) for level in levels))
        for name, band in named
    )
    columns = (LABEL, Column(f"{unit_of(metrics)}s"), *(Column(spelled_level(level)) for level in levels))
    note = "How far an interval reaches on either side, as a share of the prediction."
    return Table("How far off, with what confidence", columns, rows, note)


def unit_of(metrics: Metrics) -> str:
    """Return what intervals are calibrated and tried on: requests, prompts or other groups."""
    return UNITS.get(str((metrics.get("calibration") or {}).get("grouped_by")), "group")


def spelled_level(level: Any) -> str:
    """Spell a level, as in 99 %."""
    return f"{100 * float(level):g}{NBSP}%"


def _share(value: Any) -> str:
    return f"± {percent(value)}" if is_number(value) else "not known"


def tried(metrics: Metrics) -> Table | None:
    """Lay out how many tokens of requests never seen the 90 % interval held, by phase and by context."""
    found = metrics.get("coverage")
    if not found or not is_number(found["median_relative_width"]):
        return None
    parts = [("all", found), *((wording.PHASES.get(k, k), v) for k, v in found["by_phase"].items())]
    parts += [(f"context {count(p['from'])} to {count(p['to'])}", p) for p in found["by_context"]]
    rows = tuple(
        (
            name,
            count(part["n_groups"]),
            count(part["n_rows"]),
            percent(part["coverage"]),
            number(part["median_width_ms"]) if is_number(part["median_width_ms"]) else MISSING,
            percent(part["median_relative_width"]) if is_number(part["median_relative_width"]) else MISSING,
        )
        for name, part in parts
    )
    columns = (
        LABEL,
        Column(f"{unit_of(metrics)}s"),
        Column("rows"),
        Column("held"),
        Column("width, ms"),
        Column("of the prediction", roomy=True),
    )
    return Table(f"What the {spelled_level(found['level'])} interval held", columns, rows)
