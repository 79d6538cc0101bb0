"""Where a sweep stands: a line a job, plain enough for a pipe."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmlat.jobs.folder import SweepFolder
from llmlat.jobs.outcome import DONE, Outcome, read_outcome

MESSAGE_WIDTH = 160


def job_line(sweep: SweepFolder, number: int, overrides: Iterable[str]) -> str:
    """Return the line of a job that has ended: its place, its overrides, what came of it, and time left.

    Parameters
    ----------
    sweep : SweepFolder
    number : int
        The job's number within its command, from 0.
    overrides : iterable of str
        All of its overrides; those that the command sweeps are shown.
    """
    command = sweep.command
    folder = sweep.job(number)
    outcome = read_outcome(folder) if folder else Outcome("killed", {})
    is_skipped = folder is not None and _was_done_before(folder, command)
    total = command["n_jobs"]
    place = f"{number + 1}" if total is None else f"{number + 1:>{len(str(total))}}/{total}"
    swept = [o for o in overrides if o.partition("=")[0] in command["swept"]]
    parts = [f"[{place}] {' '.join(swept)}".rstrip(), _result(outcome, is_skipped)]
    left = seconds_left(sweep, command)
    if left is not None and not is_skipped:
        parts.append(f"about {duration(left)} left")
    return "  ".join(parts)


def _result(outcome: Outcome, is_skipped: bool) -> str:
    said = outcome.said
    if outcome.status == "killed":
        return "KILLED: its process ended without a word"
    if outcome.status == "failed":
        message = f"FAILED  {said['error_class']}: {said['message']}"
        return message if len(message) <= MESSAGE_WIDTH else f"{message[: MESSAGE_WIDTH - 3]}..."
    mae = f"MAE {said['mae_ms']:.4g} ms"
    return f"{mae}  done before" if is_skipped else f"{mae}  {said['seconds']:.1f} s"


def seconds_left(sweep: SweepFolder, command: dict[str, Any]) -> float | None:
    """Return a guess from the pace so far; None at the end, and where the number of jobs is not known."""
    folders = [sweep.path / name for name in command["jobs"].values()]
    ended = [folder for folder in folders if read_outcome(folder).status != "killed"]
    pace = sum(not _was_done_before(folder, command) for folder in ended)
    if not pace or command["n_jobs"] is None or len(ended) >= command["n_jobs"]:
        return None
    return float((time.time() - command["started_at"]) / pace * (command["n_jobs"] - len(ended)))


def is_lost(sweep: SweepFolder, number: int) -> bool:
    """Tell whether a job, whose process has ended, left no word of how."""
    folder = sweep.job(number)
    return folder is None or read_outcome(folder).status == "killed"


def _was_done_before(folder: Path, command: dict[str, Any]) -> bool:
    try:
        return (folder / DONE).stat().st_mtime < float(command["started_at"])
    except OSError:
        return False


def duration(seconds: float) -> str:
    """Return a duration as a person says it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def unfinished(sweep: SweepFolder) -> list[int]:
    """Return the numbers of the command's jobs that are not done."""
    command = sweep.command
    jobs = {int(number): sweep.path / name for number, name in command["jobs"].items()}
    numbers = range(command["n_jobs"]) if command["n_jobs"] is not None else sorted(jobs)
    return [n for n in numbers if n not in jobs or read_outcome(jobs[n]).status != "done"]
