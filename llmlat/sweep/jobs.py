"""Finds the jobs of a sweep on disk, and what became of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from llmlat.files import read_object
from llmlat.jobs.folder import SweepFolder
from llmlat.jobs.outcome import Outcome, read_outcome
from llmlat.sweep.overrides import Value, parse

DONE, FAILED, KILLED, NOT_BEGUN = "done", "failed", "killed", "not begun"
STATUSES = (DONE, FAILED, KILLED, NOT_BEGUN)
OVERRIDES = Path(".hydra") / "overrides.yaml"
MAX_ERROR = 2000  # characters of a message that go into a table

# What a job wrote into its log, where it left no FAILED.json: `<time> ERROR llmlat: error: <message>`.
_LOGGED_ERROR = re.compile(r"^\S+ \S+ ERROR \S+: (?:error: )?(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """A job's folder, read.

    Attributes
    ----------
    name : str
        Its folder, relative to the sweep's; the job's number where Hydra named it.
    status : str
        `done`, `failed`, `killed` (begun, with neither a result nor a failure) or `not begun`.
    overrides : dict
        Every override that it was given.
    metrics : dict
        As docs/metrics.md describes; empty where there is no result.
    seconds : float or None
        How long it took, where it says so.
    error_class, error, traceback_tail : str or None
        Why it failed.
    seed : int or None
        The config's seed.
    """

    name: str
    status: str
    overrides: dict[str, Value]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    error_class: str | None = None
    error: str | None = None
    traceback_tail: str | None = None
    seed: int | None = None


def job_folders(folder: Path) -> list[Path]:
    """Return every job folder below a folder."""
    return [path.parents[1] for path in folder.rglob(str(OVERRIDES)) if path.parents[1] != folder]


def read_job(path: Path, root: Path) -> Job:
    """Read what a job left: DONE.json or FAILED.json, of older jobs metrics.json alone, and its overrides.

    Parameters
    ----------
    path : Path
        The job's folder.
    root : Path
        The folder that its name is relative to.
    """
    outcome = read_outcome(path)
    config = outcome.said.get("config") or _yaml(path / ".hydra" / "config.yaml")
    given = _yaml(path / OVERRIDES)
    job = Job(
        name=path.relative_to(root).as_posix(),
        status=outcome.status,
        overrides=parse(map(str, given if isinstance(given, list) else [])),
        seed=config.get("seed") if isinstance(config, Mapping) else None,
    )
    if job.status == FAILED:
        return replace(job, **_failure(outcome.said))
    if job.status == KILLED and SweepFolder(path.parent).is_known:
        # metrics.json may be an earlier try's, or this one's last words: only DONE.json says that it is done.
        return job
    return replace(job, **_result(path, outcome))


def _result(path: Path, outcome: Outcome) -> dict[str, Any]:
    """Return what a job came to that is done, or that is older than DONE.json and FAILED.json."""
    metrics = _json(path / "metrics.json")
    if metrics is not None and "mae_ms" in metrics:
        return {"status": DONE, "metrics": metrics, "seconds": outcome.said.get("seconds")}
    if outcome.status == DONE or (path / "metrics.json").exists():
        reason = "metrics.json is missing or damaged, though the job ended; run it again"
        return {"status": FAILED, "error_class": "DatasetError", "error": reason}
    logged = _logged_error(path)
    return {"status": FAILED if logged else KILLED, "error": logged}


def _failure(failed: Mapping[str, Any]) -> dict[str, Any]:
    tail = failed.get("traceback_tail")
    return {
        "error_class": failed.get("error_class"),
        "error": str(failed.get("message") or "")[:MAX_ERROR] or None,
        "traceback_tail": "\n".join(map(str, tail)) if isinstance(tail, list) else tail,
        "seconds": failed.get("seconds"),
    }


def _logged_error(path: Path) -> str | None:
    for log in sorted(path.glob("*.log")):
        found = _LOGGED_ERROR.findall(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return str(found[-1])[:MAX_ERROR]
    return None


def _json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is none to read: a damaged job costs only itself."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return None


def _yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return None
