"""A run in Weights & Biases."""

import contextlib
import functools
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from llmlat.config import TrackingConfig, TrackingMode
from llmlat.errors import ConfigError
from llmlat.tracking import contents, tables
from llmlat.tracking.mode import Decision, decide, fall_back
from llmlat.tracking.run_note import group_of, is_in_sweep, note_of, write_note
from llmlat.tracking.session import QUIET, Background, Session, import_wandb, one_line
from llmlat.tracking.tracker import NullTracker, Tracker

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FINISH_CHECK_S = 5.0
FINISH_LIMIT_S = 60.0
SLOWEST_BYTES_PER_S = 1e6  # what a run may take beyond that, for what it has to send
MAX_TAG = 64  # W&B refuses longer ones


def open_run(config: TrackingConfig, run_config: dict[str, Any], folder: Path) -> Tracker:
    """Open a run, online or offline, and say in one line which.

    Raises
    ------
    ConfigError
        Where wandb is not installed, online is insisted on and cannot be had, or a setting is invalid.
    """
    wandb = import_wandb()
    session = Session(wandb, folder, None if config.mode is TrackingMode.auto else config.mode.value)
    try:
        decision = decide(config.mode, session)
        if decision.mode == "disabled":
            log.info(f"W&B off: {decision.reason}.")
            session.close()
            return NullTracker()
        run, decision = _init(wandb, config, run_config, folder, decision)
    except BaseException:
        session.close()
        raise
    tracker = WandbTracker(wandb, session, run, config, folder, _asked_names(run_config))
    tracker.announce(decision)
    tracker.leave_note()
    return tracker


def _init(
    wandb: Any, config: TrackingConfig, run_config: dict[str, Any], folder: Path, decision: Decision
) -> tuple[Any, Decision]:
    quiet = {name: value for name, value in QUIET.items() if name in wandb.Settings.model_fields}
    try:
        run = wandb.init(
            project=config.project,
            entity=config.entity,
            group=group_of(config.group, folder),
            name=tables.run_name(run_config.get("name"), _asked_names(run_config)),
            id=_own_id(folder),
            tags=None
            if config.tags is None
            else [_as_tag(tag, run_config.get("name")) for tag in config.tags],
            config=tables.as_asked(run_config),
            mode=decision.mode,
            reinit="create_new",
            settings=wandb.Settings(root_dir=str(folder.resolve()), **quiet),
        )
    except Exception as error:
        if decision.mode == "online":
            return _init(wandb, config, run_config, folder, fall_back(one_line(error), decision.insisted))
        raise ConfigError(
            f"tracking: W&B cannot open a run: {one_line(error)}. Mend that, or run with tracking=none."
        ) from error
    # A request's own number is its axis, and its last values are no summary of the run.
    run.define_metric("request/index", summary="none")
    run.define_metric("request/*", step_metric="request/index", summary="none")
    return run, decision


def _asked_names(run_config: Mapping[str, Any]) -> dict[str, Any]:
    asked = tables.as_asked(run_config)
    return {group: (asked.get(group) or {}).get("name") for group in tables.NAMED}


def _own_id(folder: Path) -> str | None:
    """Return an id for a sweep's job: WANDB_RUN_ID would make one run of all of them."""
    return secrets.token_hex(4) if is_in_sweep(folder) and "WANDB_RUN_ID" in os.environ else None


def _as_tag(tag: str, experiment: Any) -> str:
    """Return a tag; of an experiment's name, which may be longer than W&B takes, its start."""
    return tag if len(tag) <= MAX_TAG or tag != experiment else f"{tag[: MAX_TAG - 3]}..."


class WandbTracker:
    """Logs to a run; what fails warns, once for each kind, and never raises.

    Parameters
    ----------
    wandb : module
    session : Session
    run : wandb.Run
    config : TrackingConfig
    folder : Path
        The run folder.
    asked : mapping
        What the configuration names of what is measured.
    """

    def __init__(
        self,
        wandb: Any,
        session: Session,
        run: Any,
        config: TrackingConfig,
        folder: Path,
        asked: Mapping[str, Any],
    ) -> None:
        self._wandb = wandb
        self._session = session
        self._run = run
        self._config = config
        self._asked = asked
        self._folder = folder
        self._was_online = self._online = not run.offline
        self._finished = False
        self._measured = False
        self._to_send_bytes = 0
        self._warned: set[str] = set()
        self._note = note_of(run)
        self._sync = self._note.sync
        self.where: str | None = run.url if self._online else self._sync

    def announce(self, decision: Decision) -> None:
        """Say where the run is kept."""
        if self._online:
            log.info(f"W&B run     {self.where}")
            return
        level = logging.WARNING if decision.unexpected else logging.INFO
        log.log(level, f"W&B offline: {decision.reason}. To send it later: {self._sync}")

    def leave_note(self, arrived: bool = False) -> None:
        """Write into the run folder which run this is, and whether it has arrived."""
        note = replace(self._note, arrived=arrived)
        self._attempt("its note", lambda: write_note(self._folder, note))

    def log_request(self, request: Any, rows: "pd.DataFrame") -> None:
        """Log a request's latencies; called between requests, never within."""
        self._measured = True
        self._attempt("a request", lambda: self._run.log(tables.request_scalars(rows)))

    def log_provenance(self, about: Mapping[str, Any]) -> None:
        """Log what was measured under `provenance`, beside the configuration that asked for it."""
        self._attempt("provenance", lambda: self._log_provenance(about))

    def _log_provenance(self, about: Mapping[str, Any]) -> None:
        measured = tables.as_measured(self._run.config.as_dict(), about)
        self._run.config.update({**measured, "provenance": dict(about)}, allow_val_change=True)
        self._run.name = tables.run_name(about.get("experiment"), {**self._asked, **about})
        marks = {"stand-in": about.get("stand_in"), "random-weights": about.get("weights") == "random"}
        earned = [tag for tag, holds in marks.items() if holds]
        if earned:
            self._run.tags = tuple(dict.fromkeys([*(self._run.tags or ()), *earned]))

    def log_result(
        self,
        metrics: Mapping[str, Any],
        rows: "pd.DataFrame",
        predictions: "pd.DataFrame",
        figures: Mapping[str, str],
        dataset: Path | None = None,
    ) -> None:
        """Log numbers, tables, figures and the report, then dataset, predictor and report as artifacts."""
        if self._online and self._session.problem():
            self._leave_server()
        wandb, log_to_run = self._wandb, self._run.log
        self._attempt("metrics", lambda: self._run.summary.update(tables.scalars(metrics)))
        self._attempt("tables", lambda: log_to_run(contents.result_tables(wandb, metrics)))
        # In a sweep a dataset's rows are in the run that measured them, and only figures and columns to
        # compare are logged: a hundred alphas over one dataset are no hundred copies.
        in_sweep = is_in_sweep(self._folder)
        token_rows = {"token_rows": rows} if self._measured or not in_sweep else {}
        shown = contents.to_compare(figures) if in_sweep else figures
        test_rows = predictions if token_rows else contents.columns_to_compare(predictions)
        self._log_frames({**token_rows, "prediction_rows": test_rows})
        self._attempt("figures", lambda: log_to_run(contents.pictures(wandb, shown)))
        self._attempt("report", lambda: log_to_run(contents.page(wandb, self._folder / "report.html")))
        self._attempt("artifacts", lambda: self._log_artifacts(metrics, dataset))

    def _log_frames(self, frames: Mapping[str, "pd.DataFrame"]) -> None:
        capped = contents.CappedTables(self._wandb, self._config.max_table_rows)

        def log_frame(name: str, frame: "pd.DataFrame") -> None:
            table, counts = capped.contents(name, frame)
            self._run.log(table)
            self._run.summary.update(counts)

        for name, frame in frames.items():
            self._attempt(name.replace("_", " "), functools.partial(log_frame, name, frame))
        if capped.cuts:
            log.info(
                f"W&B tables hold {' and '.join(capped.cuts)}: whole requests, evenly spaced "
                "(tracking.max_table_rows); the dataset artifact holds all."
            )

        if capped.narrowed:
            log.info(f"W&B tables hold {' and '.join(capped.narrowed)}; the report and its files hold all.")

    def _log_artifacts(self, metrics: Mapping[str, Any], dataset: Path | None) -> None:
        for artifact in contents.artifacts(self._wandb, metrics, self._folder, dataset):
            self._to_send_bytes += artifact.size or 0
            self._run.log_artifact(artifact)

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        """Do some logging; try again on disk where the server is gone, and warn where that fails too."""
        try:
            work()
        except Exception as error:
            if self._online and self._session.problem():
                self._leave_server()
                self._attempt(what, work)
            elif what not in self._warned:
                self._warned.add(what)
                log.warning(f"W&B: {what} not logged: {one_line(error)}. The run goes on.")

    def _leave_server(self) -> None:
        """Keep the rest on disk: online, wandb asks the server before each artifact, and records none."""
        self._online = False
        self.where = self._sync
        log.warning(f"W&B: the server no longer answers. To send the run later: {self._sync}")
        # The service goes on writing its log; only the questions to the server stop. wandb has no public word
        # for it, and an offline run's files would go elsewhere.
        with contextlib.suppress(Exception):
            self._run._settings.x_files_dir = self._run.settings.files_dir
            self._run._settings.mode = "offline"

    def finish(self, exit_code: int = 0) -> None:
        """End the run, waiting for the server only as long as it answers; a second call does nothing."""
        if self._finished:
            return
        self._finished = True
        try:
            self._finish(exit_code)
        except BaseException as error:
            self._session.abandon()
            if not isinstance(error, Exception):
                raise
            log.warning(f"W&B: the run did not finish: {one_line(error)}. To send it later: {self._sync}")
        finally:
            self._session.close()

    def _finish(self, exit_code: int) -> None:
        limit_s = FINISH_LIMIT_S + self._to_send_bytes / SLOWEST_BYTES_PER_S
        deadline = time.monotonic() + limit_s
        waiting = Background(lambda: self._run.finish(exit_code=exit_code))
        while not waiting.is_over(FINISH_CHECK_S):
            problem = self._session.problem() if self._was_online else None
            if problem or time.monotonic() > deadline:
                self.where = self._sync
                raise TimeoutError(problem or f"not all sent after {limit_s:.0f} s")
        if self._online:
            self.leave_note(arrived=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish(0 if kind is None else 1)
