"""Every table of the report, computed once from the metrics."""

from collections.abc import Mapping
from typing import Any

from llmlat.records import COLUMN
from llmlat.report import wording
from llmlat.report.error_tables import LABEL, best_baseline
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, NBSP, count, is_number, ms, number, percent, signed

Metrics = Mapping[str, Any]

INPUT, MEANING = Column("input", right=False), Column("what it is", right=False, roomy=True)
SCALED, INTERVAL, PER_UNIT = Column("scaled, ms"), Column("95 % interval"), Column("ms per unit")
IMPACT, MEAN, DEVIATION = (
    Column("relative impact"),
    Column("mean", roomy=True),
    Column("std. dev.", roomy=True),
)
COEFFICIENT = (INPUT, MEANING, SCALED, INTERVAL, PER_UNIT, IMPACT, MEAN, DEVIATION)


def reference(metrics: Metrics) -> Table | None:
    """Set the published figures beside ours, or return None where nothing was published."""
    theirs = metrics.get("reference")
    if not theirs:
        return None
    ours = "ours, on a stand-in" if metrics["stand_in"] else "ours"
    rows = [
        ("Token events", count(theirs.get("n_events")), count(metrics["n_events"])),
        ("Rows to fit on", count(theirs.get("n_train")), count(metrics["n_train"])),
        ("Rows to test on", count(theirs.get("n_test")), count(metrics["n_test"])),
        ("MAE, ms", number(theirs.get("mae_ms"), 4), number(metrics["mae_ms"], 4)),
        ("RMSE, ms", number(theirs.get("rmse_ms"), 4), number(metrics["rmse_ms"], 4)),
        ("RMSE ÷ MAE", _spread(theirs), _spread(metrics)),
        ("Intercept, ms", number(theirs.get("intercept_ms"), 4), number(metrics.get("intercept_ms"), 4)),
        *_coefficient_pairs(metrics, theirs.get("coefficients") or {}),
    ]
    note = (
        "Coefficients are on scaled inputs: milliseconds for one standard deviation. RMSE ÷ MAE is about "
        "1.25 when misses are bell-shaped; the further above, the more a few rows decide the RMSE."
    )
    columns = (LABEL, Column("thesis"), Column(ours))
    return Table("The paper beside ours", columns, tuple(rows), note)


def _spread(block: Mapping[str, Any]) -> str:
    mae, rmse = block.get("mae_ms"), block.get("rmse_ms")
    return number(rmse / mae) if is_number(mae) and is_number(rmse) and mae else MISSING


def _coefficient_pairs(metrics: Metrics, theirs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    ours = metrics.get("coefficients") or {}
    pairs = []
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        alias = wording.THESIS_NAMES.get(name)
        label = f"{alias} ({name}), ms" if alias else f"{name}, ms"
        pairs.append((label, signed(theirs.get(name), 4), signed(ours.get(name, {}).get("scaled_ms"), 4)))
    return pairs


def coefficients(metrics: Metrics) -> Table | None:
    """Lay out what each input adds: the coefficients, or for any other regressor its average effects."""
    fitted = metrics.get("coefficients")
    if not fitted:
        return _average_effects(metrics)
    intervals = (metrics.get("intervals") or {}).get("coefficients") or {}
    drawn = " Intervals are over requests, drawn with replacement." if intervals else ""
    columns = [column for column in COEFFICIENT if intervals or column is not INTERVAL]
    cells = [
        *(
            {INPUT: name, MEANING: _meaning(name, metrics), **_coefficient(values, intervals.get(name))}
            for name, values in fitted.items()
        ),
        {
            INPUT: "intercept",
            MEANING: "Where the sum starts.",
            SCALED: number(metrics.get("intercept_ms")),
            PER_UNIT: number(metrics.get("intercept_per_unit_ms")),
        },
    ]
    rows = tuple(tuple(row.get(column, "") for column in columns) for row in cells)
    by_construction = (
        "context_length is prompt_tokens + token_index by construction, so "
        if {"context_length", "prompt_tokens"} <= set(fitted)
        else ""
    )
    note = (
        f"Do not over-read one coefficient: {by_construction}inputs that move together share their effect, "
        "and how they share it is partly chance."
    )
    return Table("Each input in numbers", tuple(columns), rows, f"{note}{drawn}")


def _meaning(name: str, metrics: Metrics) -> str:
    """Say what an input is: a column's meaning, or the formula that it comes from."""
    return COLUMN[name].meaning if name in COLUMN else (metrics.get("derived") or {}).get(name, "")


def _coefficient(values: Mapping[str, Any], known: Mapping[str, Any] | None) -> dict[Column, str]:
    ends = (known or {}).get("scaled_ms")
    return {
        SCALED: signed(values.get("scaled_ms")),
        INTERVAL: f"{signed(ends[0])} to {signed(ends[1])}" if ends else MISSING,
        PER_UNIT: signed(values.get("per_unit_ms")),
        IMPACT: percent(values.get("relative_impact")),
        MEAN: number(values.get("mean")),
        DEVIATION: number(values.get("scale")),
    }


def physics(metrics: Metrics) -> Table | None:
    """Lay out what physics found: overhead, floor, and the rates that work runs at."""
    terms = metrics.get("physics")
    if not terms:
        return None
    rows = tuple(
        (term["name"], "no cost shows" if term["value"] is None else number(term["value"]), term["unit"])
        for term in terms
    )
    note = (
        "A rate is one over the cost: what is achieved where the step waits for this work. Work that comes "
        "and goes together shares its cost, and one of the two may show none."
    )
    columns = (Column("", right=False), Column("value"), Column("unit", right=False))
    return Table("The fit as physics", columns, rows, note)


def _average_effects(metrics: Metrics) -> Table | None:
    """Lay out what a regressor without coefficients makes of each input, in the same numbers."""
    effects = metrics.get("average_effects")
    if not effects:
        return None
    rows = tuple(
        (
            name,
            _meaning(name, metrics),
            signed(effect["scaled_ms"]),
            signed(effect["per_unit_ms"]),
            percent(effect["relative_impact"]),
        )
        for name, effect in effects.items()
    )
    columns = (INPUT, MEANING, Column("one std. dev. more, ms"), PER_UNIT, IMPACT)
    note = (
        "This regressor is not a sum of its inputs. Shown is what one standard deviation more of an input "
        "adds to its prediction, on average over the rows: for a linear one, these would be its coefficients."
    )
    return Table("Each input in numbers", columns, rows, note)


def worst_rows(metrics: Metrics, limit: int = 10) -> Table | None:
    """List the test rows that miss most."""
    rows = metrics["worst_rows"]["rows"][:limit]
    if not rows:
        return None
    columns = tuple(
        Column(header, right=header not in {"prompt", "phase"})
        for header in (
            "request",
            "prompt",
            "token",
            "phase",
            "context",
            "measured, ms",
            "predicted, ms",
            "off by, ms",
        )
    )
    note = "Off by: measured less predicted; positive where the token took longer than predicted."
    return Table("The rows that miss most", columns, tuple(_worst_row(row) for row in rows), note)


def _worst_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    measured, predicted = row.get("token_latency_ms"), row.get("predicted_ms")
    off = measured - predicted if is_number(measured) and is_number(predicted) else None
    return (
        count(row.get("request_id")),
        str(row.get("prompt_id", MISSING)),
        count(row.get("token_index")),
        str(row.get("phase", MISSING)),
        count(row.get("context_length")),
        number(measured),
        number(predicted),
        signed(off),
    )


def latency(metrics: Metrics) -> Table:
    """Show how long tokens took, before any prediction."""
    rows = tuple(
        (
            wording.PHASES[k],
            count(v["n"]),
            *(number(v[c]) for c in ("median_ms", "p5_ms", "p95_ms", "max_ms")),
        )
        for k, v in (metrics.get("latency") or {}).items()
        if v and v["n"]
    )
    headers = ("tokens", "median, ms", "5 % under, ms", "95 % under, ms", "slowest, ms")
    return Table("How long tokens took", (LABEL, *(Column(h) for h in headers)), rows)


def origin(metrics: Metrics) -> Table:
    """Say where the numbers came from."""
    split = metrics["split"]
    weights = f"{metrics['model']}, {metrics['weights']} weights"
    facts = {
        "Experiment": metrics.get("experiment"),
        "Model": f"{weights}, standing in for {metrics['stand_in_for']}" if metrics["stand_in"] else weights,
        "Quantization": metrics.get("quantization"),
        "Engine": metrics.get("engine"),
        "Device": metrics.get("device"),
        "Dataset": metrics.get("dataset_key"),
        "Requests": count(metrics["n_requests"]),
        "Rows": f"{count(metrics['n_events'])} counted, {count(metrics.get('n_warmup'))} more to warm up",
        "Regressor": wording.regressor(metrics, whole=True),
        "Inputs": ", ".join(metrics["features"]),
        "Split": _split(split),
        "llmlat": metrics.get("llmlat_version"),
        **{str(name): version for name, version in (metrics.get("versions") or {}).items()},
    }
    rows = tuple((name, _fact(value)) for name, value in facts.items() if value is not None)
    return Table("Where it came from", (LABEL, Column("", right=False)), rows)


def _split(split: Mapping[str, Any]) -> str:
    if split["name"] == "leave_one_out":
        return f"leave_one_out, {split['column']} {split['held_out']} to test"
    column = f" of {split['column']}" if split.get("column") else ""
    seed = "" if split["name"] in {"extrapolate", "by_time"} else f", seed {split['seed']}"
    return f"{split['name']}{column}, {100 * split['test_size']:g}{NBSP}% to test{seed}"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def key_numbers(metrics: Metrics) -> list[tuple[str, str, str]]:
    """Return the few numbers that stand on top: a name, a value, and what it is."""
    tiles = [
        ("Average miss", ms(metrics["mae_ms"]), f"MAE, on {count(metrics['n_test'])} test tokens"),
        ("Large misses", ms(metrics["rmse_ms"]), "RMSE, where large misses weigh more"),
    ]
    best, floor = best_baseline(metrics), metrics.get("noise_floor")
    if best:
        tiles.append(
            ("Best simple guess", ms(best[1]["mae_ms"]), f"MAE: {wording.BASELINES.get(best[0], best[0])}")
        )
    told = "how much equal steps differ" if floor else "not known from this data"
    tiles.append(("Noise floor", ms((floor or {}).get("mae_ms")), told))
    for phase, title in (("prefill", "First token"), ("decode", "Each later token")):
        spread = (metrics.get("latency") or {}).get(phase)
        if spread and spread["n"]:
            rest = f"median; 90 % in {number(spread['p5_ms'])} to {number(spread['p95_ms'])}"
            tiles.append((title, ms(spread["median_ms"]), rest))
    return tiles
