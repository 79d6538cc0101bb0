"""One try at a job: whatever comes of it is written down, and in a sweep it costs only itself."""

import gc
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmlat.errors import LlmlatError, one_line
from llmlat.jobs.folder import SweepFolder
from llmlat.jobs.outcome import Outcome, begin, is_done, read_outcome, write_done, write_failed
from llmlat.jobs.progress import job_line
from llmlat.jobs.workers import Workers

log = logging.getLogger("llmlat")

WhenDone = Callable[[Mapping[str, Any]], None]
Work = Callable[[WhenDone], Mapping[str, Any]]

KILLED = "its process was killed: by the system, where memory ran out, or by hand"


@dataclass(frozen=True)
class Job:
    """A job, as the command line names it.

    Attributes
    ----------
    folder : Path
    number : int or None
        Its place in a sweep, from 0; None in a single run.
    overrides : sequence of str
    shows_tracebacks : bool
        Whether the terminal shows tracebacks too.
    """

    folder: Path
    number: int | None
    overrides: Sequence[str]
    shows_tracebacks: bool = False


@dataclass(frozen=True)
class Beside:
    """What it takes to do a job that measures nothing in another process.

    Attributes
    ----------
    workers : Workers
        The processes.
    work : callable
        Returns the job's work as something to pickle; None where the job must measure.
    set_up : callable
        Sets up that process's logging for the job; to pickle as well.
    """

    workers: Workers
    work: Callable[[], Work | None]
    set_up: Callable[[], None]


def attempt(
    job: Job,
    resolve: Callable[[], Mapping[str, Any]],
    work: Work,
    beside: Beside | None = None,
    known_key: Callable[[], str | None] = lambda: None,
) -> float:
    """Run a job, and leave DONE.json or FAILED.json in its folder.

    In a sweep, a job that is done already is passed over, and one that fails returns NaN: an exception would
    keep Hydra from the sweep's end, and later batches from running.

    Parameters
    ----------
    job : Job
    resolve : callable
        Returns the configuration, checked, resolved and plain.
    work : callable
        Does it all, and returns the metrics; it calls what it is given once all results are in the folder,
        so that what comes after, such as waiting for a service, costs no finished job.
    beside : Beside, optional
        Where given, a sweep's job that measures nothing is left to another process, and returns NaN at once.
    known_key : callable, optional
        Returns the key of the data that the job would be fitted on now; None where that cannot be told.

    Returns
    -------
    float
        The mean absolute error, in milliseconds.
    """
    if job.number is None:
        outcome, error = _try(job, resolve, work)
        if error is not None:
            raise error
        return float(outcome.said["mae_ms"])
    is_over = _is_done(job.folder, resolve, known_key)
    portable = None if beside is None or is_over else _portable(beside)
    if beside is None or is_over or portable is None:
        if beside is not None and not is_over:
            beside.workers.end()  # nothing may be at work beside a measurement
        return _settle(job, resolve, work, known_key)
    on_loss = partial(_lose, job, time.perf_counter())
    beside.workers.hand_over(on_loss, _settle_there, job, resolve(), portable, beside.set_up)
    return math.nan


def _portable(beside: Beside) -> Work | None:
    """Return a job's work for another process; where something is wrong with it, doing it here says so."""
    try:
        return beside.work()
    except (Exception, SystemExit):
        return None


def _settle(
    job: Job,
    resolve: Callable[[], Mapping[str, Any]],
    work: Work,
    known_key: Callable[[], str | None] = lambda: None,
) -> float:
    """Run a job of a sweep unless it is done, and say in a line what came of it."""
    assert job.number is not None
    sweep = SweepFolder(job.folder.parent)
    with sweep.alone_with(job.folder.name):
        if not _is_done(job.folder, resolve, known_key):
            _try(job, resolve, work)
        outcome = read_outcome(job.folder)
    log.info(job_line(sweep, job.number, job.overrides))
    return float(outcome.said.get("mae_ms", math.nan))


def _settle_there(job: Job, resolved: Mapping[str, Any], work: Work, set_up: Callable[[], None]) -> None:
    """Settle a job in the process that it was handed to."""
    set_up()
    _settle(job, lambda: resolved, work)
    set_aside_what_stays()


def _lose(job: Job, started: float, error: BaseException) -> None:
    """Write down why a job that was handed over has not been settled."""
    assert job.number is not None
    sweep = SweepFolder(job.folder.parent)
    if isinstance(error, BrokenProcessPool):
        sweep.note_lost(job.number, [KILLED])
    else:
        _log(job, error)
        write_failed(job.folder, error, time.perf_counter() - started)
    log.info(job_line(sweep, job.number, job.overrides))


def set_aside_what_stays() -> None:
    """Spare each job of a sweep 0.07 s of looking for garbage among all that the first has loaded."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def _is_done(
    folder: Path, resolve: Callable[[], Mapping[str, Any]], known_key: Callable[[], str | None]
) -> bool:
    """Tell whether a job is done, of this configuration and on the data that it would be done on now."""
    try:
        if not is_done(folder, resolve()):
            return False
        key = known_key()
    except LlmlatError:
        return False
    before = read_outcome(folder).said.get("dataset_key")
    if key in {None, before}:
        return True
    log.warning(f"Job {folder.name} was done on other data ({before}, now {key}): it is done again.")
    begin(folder)  # for the process that it may be handed to
    return False


def _try(
    job: Job, resolve: Callable[[], Mapping[str, Any]], work: Work
) -> tuple[Outcome, BaseException | None]:
    """Do the work and write down what came of it; Ctrl-C passes, and leaves the job as if killed."""
    started = time.perf_counter()
    begin(job.folder)
    try:
        resolved = resolve()

        def when_done(metrics: Mapping[str, Any]) -> None:
            write_done(job.folder, resolved, metrics, time.perf_counter() - started)

        metrics = work(when_done)
        return write_done(job.folder, resolved, metrics, time.perf_counter() - started), None
    except (Exception, SystemExit) as error:
        _log(job, error)
        return write_failed(job.folder, error, time.perf_counter() - started), error


def _log(job: Job, error: BaseException) -> None:
    """Log an error: its traceback into the job's log, and on the terminal a line at most."""
    is_known = isinstance(error, LlmlatError)
    words = one_line(error) if is_known else f"{type(error).__name__}: {one_line(error)}"
    # In a sweep the terminal has the job's own line, and an unexpected error of a single run is raised to it.
    is_told_there = job.number is not None or not is_known
    shown = {
        "shows_traceback": job.shows_tracebacks,
        "is_for_the_file": is_told_there and not job.shows_tracebacks,
    }
    log.error(f"error: {words}", exc_info=error, extra=shown)
