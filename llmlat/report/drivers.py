"""What drives the latency, in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmlat.report import wording
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, count, listed, signed

Metrics = Mapping[str, Any]

PLAIN = {
    "model": "not told",
    "quantization": "not told",
    "engine": "not told",
    "batch_size": "one sequence",
    "num_beams": "no beams",
}
"""What a setting is called that goes without saying, beside others that do not."""

WAY = tuple(PLAIN)
"""What fits are drawn apart by: their mean would be nobody's."""


def effects(metrics: Metrics) -> Table | None:
    """Lay out what 1,000 more tokens cost a decode step, for each way of generating."""
    found = [cell for cell in metrics.get("effects") or [] if cell["context_alone"]]
    if not found:
        return None
    rows = tuple(
        (
            name,
            count(cell["n_requests"]),
            *(_slope(cell[effect]) for effect in ("context_alone", "context_length", "prompt_tokens")),
        )
        for name, cell in zip(cell_names(found), found, strict=True)
    )
    columns = (
        Column("", right=False),
        Column("requests"),
        Column("context"),
        Column("context, at equal prompts", roomy=True),
        Column("prompt, at equal context"),
    )
    steps = "steps" if wording.is_table(metrics) else "decode steps outside the slow start"
    note = f"Least squares on {steps}, with 95 % intervals over requests. A dash: the rows cannot tell."
    return Table("1,000 more tokens change a decode step by, ms", columns, rows, note)


def cell_names(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name ways of generating in short: by what tells them apart, if anything does."""
    told = [_told(cell) for cell in cells]
    differ = [name for name in PLAIN if len({one[name] for one in told}) > 1]
    if differ:
        return [", ".join(one[name] or PLAIN[name] for name in differ) for one in told]
    return [", ".join(filter(None, one.values())) or "all rows" for one in told]


def _told(cell: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of each setting; nothing of what is plain, or a table does not tell."""
    quantization, batch, beams = cell["quantization"], cell["batch_size"], cell["num_beams"]
    told = {
        "model": str(cell["model"]).rsplit("/", 1)[-1],
        "quantization": str(wording.QUANTIZATIONS.get(quantization, quantization)),
        "engine": str(cell["engine"]),
        "batch_size": f"batch of {count(batch)}" if batch > 1 else "",
        "num_beams": f"{count(beams)} beams" if beams > 1 else "",
    }
    return {name: "" if words in {"table", "not told"} else words for name, words in told.items()}


def _slope(told: Any) -> str:
    if not told:
        return MISSING
    value, low, high = told
    return f"{signed(value)} [{signed(low)}, {signed(high)}]"


def words(metrics: Metrics) -> list[str]:
    """Say what the prediction rests on, by what shuffling an input costs."""
    importance = metrics.get("importance")
    if not importance:
        return []
    ranked = sorted(importance.items(), key=lambda item: -item[1]["mae_ms_more"])
    telling = [name for name, found in ranked if found["low_ms"] > 0]
    if not telling:
        return ["On requests never seen, shuffling any of its inputs costs the prediction nothing."]
    order = ", in this order" if len(telling) > 1 else ""
    rests = f"On requests never seen, the prediction rests on {listed(telling)}{order}"
    others = (
        "" if len(telling) == len(ranked) else ": shuffling the others costs it nothing that could be told"
    )
    return [f"{rests}{others}.{_untold(metrics)}"]


def _untold(metrics: Metrics) -> str:
    """Say which inputs did not vary on the held-out requests, where shuffling them changes nothing."""
    told = {name for found in metrics["importance"].values() for name in found["inputs"]}
    inputs = set(metrics["inputs"]) - told - set(metrics["left_out"] or {})
    untold = [name for name in metrics["features"] if name in inputs]
    return f" Of {listed(untold)} this cannot tell: one value in all of those requests." if untold else ""
