"""Where Hydra meets the jobs: a job's subfolder, and what comes before and after a sweep."""

import importlib.util
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, configure_log
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from llmlat.config import TrackingName, as_given, as_typed, override
from llmlat.errors import one_line
from llmlat.jobs.folder import SweepFolder
from llmlat.jobs.logs import TerminalFilter, keep_to_lines
from llmlat.jobs.progress import unfinished
from llmlat.jobs.workers import Workers

log = logging.getLogger("llmlat")

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
OWN_LAUNCHERS = "hydra_plugins.llmlat_launchers."


WORKERS = Workers()
"""The processes beside this command's; Hydra calls for each job anew, and hands on nothing in between."""


def register() -> None:
    """Teach Hydra `${job_subfolder:}`, which names a job's subfolder."""
    OmegaConf.register_new_resolver("job_subfolder", _job_subfolder, replace=True)


def _job_subfolder(*, _root_: DictConfig) -> str:
    config: Any = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    OmegaConf.set_readonly(config, False)
    try:
        plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    except OmegaConfBaseException:
        # The job will say what is wrong with it, in a folder of its own.
        plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    sweep = SweepFolder(Path(_root_.hydra.sweep.dir))
    return sweep.subfolder(_root_.hydra.job.num, {str(key): value for key, value in plain.items()})


def workers_of(hydra: Any) -> Workers | None:
    """Return the processes that may do a sweep's jobs beside this one.

    None in a single run, where jobs have processes of their own already, where somebody waits for what a job
    comes to, and where each has its own folder to work in or its own environment.
    """
    is_plain = hydra.launcher._target_ == BASIC_LAUNCHER and hydra.sweeper._target_ == BASIC_SWEEPER
    is_sweep = hydra.mode is RunMode.MULTIRUN
    return WORKERS if is_sweep and is_plain and not hydra.job.chdir and not hydra.job.env_set else None


def logging_of(hydra: Any) -> Callable[[], None]:
    """Return what sets up a job's logging, as something to pickle."""
    settings = OmegaConf.to_container(hydra.job_logging, resolve=True)
    return partial(_set_up_logging, settings, hydra.verbose, frozenset(TerminalFilter.given))


def _set_up_logging(settings: Any, verbose: Any, given: frozenset[str]) -> None:
    TerminalFilter.given |= given  # what has been said need not be said there again
    configure_log(OmegaConf.create(settings), verbose)
    keep_to_lines()


def how_to_go_on(interrupt: KeyboardInterrupt) -> str:
    """Say what is kept after Ctrl-C, and how to go on; a sweep by its folder, whichever moment it came at."""
    said = str(interrupt)
    if SweepCallback.folder is None:
        return said or "what was measured is kept; run the same command again"
    typed = as_typed("hydra.sweep.dir", SweepCallback.folder)
    return f"{said or 'run the same command to resume'}, with {typed}"


class SweepCallback(Callback):
    """Notes what a sweep is about to do, and at its end has it summed up, published and judged."""

    folder: Path | None = None
    """Where this process's sweep is; None in a single run."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep all jobs in one folder, and note what they are."""
        _need_launcher(config.hydra.launcher.get("_target_", ""))
        folder = str(config.hydra.sweep.dir)
        _pin(config, folder)
        SweepCallback.folder = Path(folder)
        SweepFolder(SweepCallback.folder).begin_command(*_plan(config))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Let a job's configuration go: Hydra keeps what every job returns until the sweep's end."""
        job_return.cfg = job_return.hydra_cfg = None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Sum the sweep up once all is done, and exit with 1 where a job is not."""
        folder = Path(config.hydra.sweep.dir)
        WORKERS.end()
        summary = _attempt("summary", lambda: _summarise(folder))
        if summary is not None and config.tracking.name == TrackingName.wandb:
            tracking = OmegaConf.to_object(config.tracking)
            _attempt("W&B report", lambda: _publish(tracking, folder, summary))
        sweep = SweepFolder(folder)
        missing = unfinished(sweep)
        if missing:
            total = sweep.command["n_jobs"]
            log.warning(
                f"{len(missing)} of {total or 'the'} jobs are not done; the same command with "
                f"{as_typed('hydra.sweep.dir', folder)} tries those again, and only those."
            )
            sys.exit(1)


def _need_launcher(target: str) -> None:
    """Refuse a launcher that is not installed; SystemExit, since Hydra makes warnings of exceptions here."""
    if target.startswith(OWN_LAUNCHERS) and importlib.util.find_spec("submitit") is None:
        print("error: hydra/launcher: it needs submitit; pip install 'llmlat[slurm]'.", file=sys.stderr)
        sys.exit(2)


def _pin(config: DictConfig, folder: str) -> None:
    """Hand the sweep's folder to every job: where jobs differ in name, each would make its own."""
    given = as_given(config.hydra.overrides.hydra)
    with read_write(config), open_dict(config):
        kept = [override for override in given if not override.startswith("hydra.sweep.dir=")]
        config.hydra.overrides.hydra = [*kept, override("hydra.sweep.dir", folder)]


def _plan(config: DictConfig) -> tuple[list[list[str]] | None, list[str]]:
    """Return the overrides of each of a sweep's jobs, where they are known beforehand, and the swept keys."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = config.hydra.sweeper
    params: Any = OmegaConf.to_container(sweeper, resolve=False)
    given = [f"{key}={value}" for key, value in (params.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*given, *as_given(config.hydra.overrides.task)])
    # As the sweeper has it: what is given later counts.
    last = {override.get_key_element(): override for override in overrides}
    swept = [key for key, override in last.items() if override.is_sweep_override()]
    if sweeper.get("_target_") != BASIC_SWEEPER or not all(last[key].is_discrete_sweep() for key in swept):
        return None, swept
    return BasicSweeper.split_arguments(overrides, max_batch_size=None)[0], swept


def _summarise(folder: Path) -> Any:
    from llmlat.sweep import summarise, terminal_lines

    summary = summarise(folder)
    print(*terminal_lines(summary), sep="\n", flush=True)
    return summary


def _publish(tracking: Any, folder: Path, summary: Any) -> None:
    from llmlat.tracking.team_report import publish

    said = publish(tracking, folder, summary.jobs)
    if said:
        print(said, flush=True)


def _attempt(what: str, work: Any) -> Any:
    """Do what comes after the jobs; what goes wrong with it must not hide how they went."""
    try:
        return work()
    except Exception as error:
        log.warning(f"The sweep's {what} was not made: {type(error).__name__}: {one_line(error)}")
        log.debug("", exc_info=True)
        return None
