"""A W&B Report for a team to review a sweep by: published, or kept beside the sweep for later.

`python -m llmlat.tracking.team_report <sweep folder>` publishes what was kept.
"""

import argparse
import contextlib
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlat.config import TrackingConfig, TrackingMode, TrackingName
from llmlat.errors import ConfigError, LlmlatError
from llmlat.tracking import report_spec
from llmlat.tracking.mode import Decision, decide
from llmlat.tracking.report_spec import SPEC
from llmlat.tracking.run_note import read_notes, sync_lines
from llmlat.tracking.session import Background, Session, import_wandb, one_line

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SEND_CHECK_S = 4.0
SEND_LIMIT_S = 30.0
LABEL = "W&B report "


def publish(config: TrackingConfig, sweep_folder: Path, jobs: "pd.DataFrame") -> str:
    """Make the review of a finished sweep; whatever goes wrong, the sweep is not harmed.

    Parameters
    ----------
    config : TrackingConfig
        Its `mode` decides, as for a run, whether the review is published or kept.
    sweep_folder : Path
    jobs : DataFrame
        A row a job, as `llmlat.sweep.frame.read_jobs` returns it.

    Returns
    -------
    str
        One line to print: the review's address, or the command that publishes it later; empty where nothing
        is tracked.
    """
    if config.name is TrackingName.none:
        return ""
    try:
        return _publish(config, sweep_folder, jobs)
    except Exception as error:
        log.debug("the W&B report", exc_info=True)
        return f"{LABEL} not made: {one_line(error)}."


def _publish(config: TrackingConfig, folder: Path, jobs: "pd.DataFrame") -> str:
    report = report_spec.build(config, folder, jobs)
    command = shlex.join(["python", "-m", "llmlat.tracking.team_report", str(folder)])
    with _session(None if config.mode is TrackingMode.auto else config.mode.value) as session:
        decision = _decide(config.mode, session)
        if decision.mode == "disabled":
            return ""
        report_spec.write(folder / SPEC, report)
        problem = decision.reason
        if decision.mode == "online":
            try:
                url = _send(session, folder, report_spec.read(folder / SPEC))
                return f"{LABEL} {url}{_missing(folder, command)}"
            except ConfigError as error:
                problem = str(error).rstrip(".")
    return f"{LABEL} not published: {problem}. To publish it later: {command}"


def _decide(mode: TrackingMode, session: Session) -> Decision:
    """Decide as for a run; but a sweep that has ended needs no error where online is insisted on."""
    try:
        return decide(mode, session)
    except ConfigError as error:
        return Decision("offline", str(error).rstrip("."))


def _missing(folder: Path, command: str) -> str:
    """Say how many runs a published report lacks, if any."""
    notes = read_notes(folder)
    unsent = sum(not note.is_sent for note in notes)
    if not unsent:
        return ""
    return f" lacks {unsent} of {len(notes)} runs, not sent yet; how to send them: {command}"


@contextlib.contextmanager
def _session(mode: str | None) -> Iterator[Session]:
    # In a folder that goes with it: the sweep's own keeps nothing but the spec.
    with tempfile.TemporaryDirectory(prefix="llmlat-", ignore_cleanup_errors=True) as scratch:
        session = Session(import_wandb(), Path(scratch), mode)
        try:
            yield session
        finally:
            session.close()


def _send(session: Session, folder: Path, report: Any) -> str:
    """Publish a report, and return its address.

    Raises
    ------
    ConfigError
        Where the server refuses, no longer answers, or takes longer than `SEND_LIMIT_S`.
    """
    saving = Background(lambda: _save(report))
    try:
        _wait(saving, session)
    except Exception as error:
        raise ConfigError(f"{_reason(error, report)}.") from error
    _remember(folder, report)
    return saving.result(0)


def _wait(saving: Background[str], session: Session) -> None:
    """Wait as long as the server answers, since wandb itself tries a dead one for 20 s and more."""
    deadline = time.monotonic() + SEND_LIMIT_S
    try:
        while not saving.is_over(SEND_CHECK_S):
            problem = session.problem()
            if problem or time.monotonic() > deadline:
                raise TimeoutError(problem or f"not done after {SEND_LIMIT_S:.0f} s")
    except (TimeoutError, KeyboardInterrupt):
        session.abandon()  # What is left behind would go on trying.
        raise


def _save(report: Any) -> str:
    entity = report.entity or import_wandb().Api().default_entity
    report_spec.address(report, entity, report.project)
    return str(report.save().url)


def _reason(error: Exception, report: Any) -> str:
    # What wandb_workspaces says where a run set's project is missing.
    if isinstance(error, ValueError) and "not found" in str(error):
        return f"there is no project {report.entity}/{report.project} yet; send the runs first"
    return one_line(error)


def _remember(folder: Path, sent: Any) -> None:
    """Keep the id of what was sent, so that publishing once more replaces it."""
    kept = report_spec.read(folder / SPEC)
    kept.id, kept.entity = sent.id, sent.entity
    report_spec.write(folder / SPEC, kept)


def publish_kept(folder: Path) -> str:
    """Publish a sweep's kept review, and return its address.

    Raises
    ------
    LlmlatError
        Where there is none, or it cannot be published now.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name a sweep's, under multirun_sweeps/.")
    if not (folder / SPEC).is_file():
        _write_spec(folder)
    report = report_spec.read(folder / SPEC)
    with _session(TrackingMode.online.value) as session:
        problem = session.problem()
        if problem:
            raise ConfigError(f"{problem}.")
        return _send(session, folder, report)


def _write_spec(folder: Path) -> None:
    """Write the spec of a sweep that ended where wandb-workspaces was not installed."""
    from llmlat.sweep.frame import read_jobs

    notes = read_notes(folder)
    if not notes:
        raise ConfigError(f"{folder}: no W&B run and no {SPEC} is in it; sweep with tracking=wandb.")
    report_spec.write(
        folder / SPEC, report_spec.build(report_spec.config_of(notes), folder, read_jobs(folder))
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish the review of a sweep, after saying which of its runs have not been sent.

    Returns
    -------
    int
        0, or 1 where it cannot be published. Wrong usage exits with 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m llmlat.tracking.team_report", description="Publish a sweep's W&B Report."
    )
    parser.add_argument(
        "folder", type=Path, help="the sweep's folder, such as multirun_sweeps/thesis_sweep/..."
    )
    folder = parser.parse_args(arguments).folder
    try:
        _say_what_is_unsent(folder)
        print(f"{LABEL} {publish_kept(folder)}")
    except LlmlatError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _say_what_is_unsent(folder: Path) -> None:
    notes = read_notes(folder)
    lines = sync_lines(folder, notes)
    if lines:
        unsent = sum(not note.is_sent for note in notes)
        print(
            f"{unsent} of {len(notes)} runs have not been sent; panels lack them until:", *lines, sep="\n  "
        )


if __name__ == "__main__":
    sys.exit(main())
