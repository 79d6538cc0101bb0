"""How a job ended: DONE.json or FAILED.json in its folder, and neither where its process was killed."""

import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmlat.errors import one_line
from llmlat.files import plain, read_object, write_json

DONE, FAILED = "DONE.json", "FAILED.json"
TRACEBACK_LINES = 20
RESULTS = (
    DONE,
    FAILED,
    "metrics.json",
    "dataset.json",
    "predictions.parquet",
    "predictor.json",
    "predictor.joblib",
    "report.html",
    "report.md",
    "figures/*.svg",
    "wandb/run.json",
)
"""What a run leaves in its folder, read by; verdicts first, so that none outlives its results."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    status : str
        `done`, `failed`, or `killed`: begun, and neither of the two.
    said : dict
        What its file holds; empty where it was killed.
    """

    status: Literal["done", "failed", "killed"]
    said: dict[str, Any]


def read_outcome(folder: Path) -> Outcome:
    """Return how the job in a folder ended, if it did."""
    done = _read(folder / DONE)
    if done is not None:
        return Outcome("done", done)
    failed = _read(folder / FAILED)
    return Outcome("killed", {}) if failed is None else Outcome("failed", failed)


def _read(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        return read_object(path)
    return None


def is_done(folder: Path, resolved: Mapping[str, Any]) -> bool:
    """Tell whether a folder holds a finished job of exactly this configuration, resolved and in full."""
    outcome = read_outcome(folder)
    is_whole = isinstance(outcome.said.get("mae_ms"), int | float)
    return outcome.status == "done" and is_whole and outcome.said.get("config") == _as_read_back(resolved)


def _as_read_back(resolved: Mapping[str, Any]) -> Any:
    # A setting may be infinite, or an object that a resolver made: what is read back then compares the same.
    return plain(resolved, default=str)


def begin(folder: Path) -> None:
    """Take away what an earlier try left; until this one ends, the folder counts as killed.

    Its log and its W&B runs stay: they tell of that try, and may still be sent.
    """
    for pattern in RESULTS:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def write_done(
    folder: Path, resolved: Mapping[str, Any], metrics: Mapping[str, Any], seconds: float
) -> Outcome:
    """Write DONE.json, the last file of a job that went well."""
    said = {
        "config": _as_read_back(resolved),
        "mae_ms": metrics["mae_ms"],
        "dataset_key": metrics["dataset_key"],
        "seconds": round(seconds, 3),
    }
    write_json(folder / DONE, said)
    return Outcome("done", said)


def write_failed(folder: Path, error: BaseException, seconds: float) -> Outcome:
    """Write FAILED.json: what went wrong, and the end of the traceback."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    said = {
        "error_class": type(error).__name__,
        "message": one_line(error),
        "traceback_tail": lines[-TRACEBACK_LINES:],
        "seconds": round(seconds, 3),
    }
    (folder / DONE).unlink(missing_ok=True)
    write_json(folder / FAILED, said)
    return Outcome("failed", said)
