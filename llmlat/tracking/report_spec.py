"""A W&B Report as a file: built without a server, read back, and addressed to a project later.

wandb_workspaces asks the server for a project as soon as a run set names one. A kept spec's run sets name
none; the project stands at its top.
"""

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlat.config import TrackingConfig, TrackingName
from llmlat.errors import ConfigError
from llmlat.files import read_object, write_atomically
from llmlat.tracking.run_note import RunNote, group_of, read_notes

if TYPE_CHECKING:
    import pandas as pd

SPEC = "wandb_report.json"


def import_workspaces() -> Any:
    """Import the part of wandb_workspaces that reports are made of.

    Raises
    ------
    ConfigError
        Where it is not installed.
    """
    with warnings.catch_warnings():
        # Its own use of pydantic warns on import, and is no reader's concern.
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("wandb_workspaces.reports.v2")
        except ImportError as error:
            raise ConfigError("wandb-workspaces is not installed; pip install 'llmlat[reports]'.") from error


def build(config: TrackingConfig, sweep_folder: Path, jobs: "pd.DataFrame") -> Any:
    """Return the review of a sweep as a report that names its project, and its entity where that is known."""
    wr = import_workspaces()
    from llmlat.tracking.review import Review
    from llmlat.tracking.review_panels import blocks

    review = Review(sweep_folder, jobs)
    notes = read_notes(sweep_folder)
    groups = [note.group for note in notes] or [group_of(config.group, sweep_folder / "0")]
    report = wr.Report(
        project=notes[-1].project if notes else config.project,
        entity=next((note.entity for note in notes if note.entity), config.entity) or "",
        title=review.title,
        description="Made by llmlat from a sweep.",
        blocks=blocks(wr, review, _filters(groups)),
        width="fluid",
    )
    report.id = _former_id(sweep_folder / SPEC)
    return report


def _filters(groups: Sequence[str | None]) -> Any:
    """Return what tells a sweep's runs from others: their group, or groups, where some ran under another."""
    named = list(dict.fromkeys(group for group in groups if group))
    if not named:
        return ""
    expr = importlib.import_module("wandb_workspaces.expr")
    group = expr.Metric("Group")
    return expr.And(group == named[0] if len(named) == 1 else group.isin(named))


def _former_id(path: Path) -> str:
    """Return the id of the report that this sweep already has, to replace it."""
    try:
        return str(read_object(path).get("id") or "")
    except (OSError, ValueError):
        return ""


def write(path: Path, report: Any) -> None:
    """Keep a report's spec, whole or not at all, as the server would be given it."""
    text = report._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=1)
    write_atomically(path, f"{text}\n".encode())


def read(path: Path) -> Any:
    """Return the report that a spec describes.

    Raises
    ------
    ConfigError
        Where there is none, or the file is damaged.
    """
    wr = import_workspaces()
    internal = importlib.import_module("wandb_workspaces.reports.v2.internal")
    try:
        text = path.read_text(encoding="utf-8")
        model = internal.ReportViewspec.model_validate_json(text)
        report = wr.Report._from_model(model)
        report.width = model.spec.width  # which wandb_workspaces itself forgets
        return report
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: not a report's spec that wandb-workspaces can read.") from error


def address(report: Any, entity: str, project: str) -> None:
    """Name the project that a report and its run sets belong to."""
    report.entity, report.project = entity, project
    for block in report.blocks:
        for runset in getattr(block, "runsets", ()):
            runset.entity, runset.project = entity, project


def config_of(notes: Sequence[RunNote]) -> TrackingConfig:
    """Return the settings that a sweep's runs were tracked with, as far as their notes tell."""
    last = notes[-1]
    return TrackingConfig(TrackingName.wandb, project=last.project, entity=last.entity, group=last.group)
