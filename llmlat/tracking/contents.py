"""What is put into a W&B run: tables, figures, the report, and the run folder's files as artifacts."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlat.records import TARGET
from llmlat.tracking import tables

if TYPE_CHECKING:
    import pandas as pd

# What is worth seeing beside other runs; the rest is in the report, which is logged whole.
COMPARED_FIGURES = ("latency_by_context", "predicted_against_measured", "coefficients")
# What tells a test row and what was predicted for it; the rest is in the token rows. W&B looks at each cell.
COMPARED_COLUMNS = (
    "request_id",
    "prompt_id",
    "sequence_index",
    "token_index",
    "phase",
    "prompt_tokens",
    "context_length",
    TARGET,
    "predicted_ms",
)
# What an artifact says of itself, so that nobody who finds it alone mistakes it for something else.
ARTIFACT_NOTES = (
    "experiment",
    "model",
    "weights",
    "stand_in",
    "stand_in_for",
    "quantization",
    "engine",
    "device",
    "dataset_key",
    "n_events",
    "mae_ms",
    "r2",
)


def result_tables(wandb: Any, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fit's errors beside the baselines', and the coefficients where there are any."""
    found = {"baselines": tables.error_table(metrics), "coefficients": tables.coefficient_table(metrics)}
    return {f"tables/{name}": wandb_table(wandb, table) for name, table in found.items() if table}


def wandb_table(wandb: Any, table: tables.Table) -> Any:
    """Return a table as W&B's."""
    return wandb.Table(columns=table.columns, data=table.rows)


def to_compare(figures: Mapping[str, str]) -> dict[str, str]:
    """Return the figures that runs are compared by."""
    return {name: figures[name] for name in COMPARED_FIGURES if name in figures}


def columns_to_compare(predictions: "pd.DataFrame") -> "pd.DataFrame":
    """Return the columns of test rows that runs over one dataset differ in, and those that name the rows."""
    return predictions[[name for name in COMPARED_COLUMNS if name in predictions]]


def pictures(wandb: Any, figures: Mapping[str, str]) -> dict[str, Any]:
    """Return figures as they are drawn in the report: to draw each again, as a bitmap, would take as long."""
    return {f"figures/{name}": wandb.Html(svg, inject=False) for name, svg in figures.items()}


def page(wandb: Any, path: Path) -> dict[str, Any]:
    """Return the report as a page to read in W&B; nothing where there is none."""
    if not path.is_file():
        return {}
    return {"report": wandb.Html(path.read_text(encoding="utf-8"), inject=False)}


def artifacts(wandb: Any, metrics: Mapping[str, Any], folder: Path, dataset: Path | None) -> Iterator[Any]:
    """Yield dataset, predictor and report, each where its files exist."""
    experiment = str(metrics.get("experiment") or "default")
    notes = {key: metrics[key] for key in ARTIFACT_NOTES if key in metrics}
    files_of = {
        ("dataset", str(metrics.get("dataset_key") or dataset)): _dataset_files(dataset),
        ("predictor", experiment): _existing(folder, "predictor.json"),
        ("report", experiment): _existing(folder, "report.html", "report.md", "figures/*", "metrics.json"),
    }
    for (kind, name), files in files_of.items():
        if files:
            artifact = wandb.Artifact(_artifact_name(f"{kind}-{name}"), type=kind, metadata=notes)
            for entry, path in files.items():
                # Left where they are: the files do not change, and a dataset is too large to copy.
                artifact.add_file(str(path), name=entry, policy="immutable", skip_cache=True)
            yield artifact


def _existing(folder: Path, *patterns: str) -> dict[str, Path]:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.resolve() for path in found}


def _dataset_files(dataset: Path | None) -> dict[str, Path]:
    """Return a dataset's rows and provenance, without what a writer left half done."""
    if dataset is None:
        return {}
    found = _existing(dataset, "provenance.json", "**/*.parquet")
    return {entry: path for entry, path in found.items() if not path.name.startswith(("_", "."))}


def _artifact_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:128]


class CappedTables:
    """Tables of frames, none longer than `limit`; remembers what it left out.

    Parameters
    ----------
    wandb : module
    limit : int
        How many rows a table may hold.
    """

    def __init__(self, wandb: Any, limit: int) -> None:
        self._wandb = wandb
        self._limit = limit
        self.cuts: list[str] = []
        self.narrowed: list[str] = []

    def contents(self, name: str, frame: "pd.DataFrame") -> tuple[dict[str, Any], dict[str, int]]:
        """Return a frame's table, and how many rows it holds of how many, for the summary."""
        kept = tables.cap_columns(tables.cap_rows(frame, self._limit))
        if kept.shape[1] < frame.shape[1]:
            self.narrowed.append(f"{kept.shape[1]} of {frame.shape[1]:,} columns of {name.replace('_', ' ')}")
        if len(kept) < len(frame):
            self.cuts.append(f"{len(kept):,} of {len(frame):,} {name.replace('_', ' ')}")
        table = wandb_table(self._wandb, tables.frame_table(kept))
        counts = {f"{name}_logged": len(kept), f"{name}_total": len(frame)}
        return {f"tables/{name}": table}, counts
