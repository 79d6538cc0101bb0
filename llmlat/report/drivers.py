"""What drives the latency, in words and tables."""

from collections.abc import Mapping
from typing import Any

from llmlat.report import wording
from llmlat.report.table import Column, Table
from llmlat.report.wording import MISSING, count, listed, signed

Metrics = Mapping[str, Any]


def effects(metrics: Metrics) -> Table | None:
    """Lay out what 1,000 more tokens cost a decode step, for each model, quantization and engine."""
    found = [cell for cell in metrics.get("effects") or [] if cell["context_alone"]]
    if not found:
        return None
    rows = tuple(
        (
            cell_name(cell),
            count(cell["n_requests"]),
            *(_slope(cell[name]) for name in ("context_alone", "context_length", "prompt_tokens")),
        )
        for cell in found
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


def cell_name(cell: Mapping[str, Any]) -> str:
    """Name a model, quantization and engine in short."""
    model = str(cell["model"]).rsplit("/", 1)[-1]
    return (
        f"{model}, {wording.QUANTIZATIONS.get(cell['quantization'], cell['quantization'])}, {cell['engine']}"
    )


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
    rests = f"On requests never seen, the prediction rests on {listed(telling)}, in this order"
    if len(telling) == len(ranked):
        return [f"{rests}."]
    return [f"{rests}: shuffling the others costs it nothing that could be told."]
