"""Finds the jobs of a sweep on disk, and what became of each."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llmlat.sweep.overrides import Value, parse

DONE, FAILED, KILLED = "done", "failed", "killed"
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
        `done`, `failed`, or `killed`: begun, with neither a result nor a failure.
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


def find_jobs(folder: Path) -> list[Path]:
    """Return every job folder below a folder, in the order of their numbers."""
    found = (path.parents[1] for path in folder.rglob(str(OVERRIDES)))
    return sorted((path for path in found if path != folder), key=lambda path: _natural(path, folder))


def _natural(path: Path, folder: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.relative_to(folder).as_posix())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def read_job(path: Path, sweep: Path) -> Job:
    """Read what a job left: DONE.json or FAILED.json, of older jobs metrics.json alone, and its overrides."""
    overrides = parse(str(line) for line in _yaml(path / OVERRIDES) or [])
    done, failed = _json(path / "DONE.json"), _json(path / "FAILED.json")
    config = (done or {}).get("config") or _yaml(path / ".hydra" / "config.yaml") or {}
    about: dict[str, Any] = {
        "name": path.relative_to(sweep).as_posix(),
        "overrides": overrides,
        "seed": config.get("seed") if isinstance(config, Mapping) else None,
    }
    if failed is not None and done is None:
        return Job(status=FAILED, **about, **_failure(failed))
    metrics = _json(path / "metrics.json")
    if metrics is not None and "mae_ms" in metrics:
        return Job(status=DONE, metrics=metrics, seconds=(done or {}).get("seconds"), **about)
    if done is not None or (path / "metrics.json").exists():
        reason = "metrics.json is missing or damaged, though the job ended; run it again"
        return Job(status=FAILED, error_class="DatasetError", error=reason, **about)
    logged = _logged_error(path)
    return Job(status=FAILED if logged else KILLED, error=logged, **about)


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
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return None
