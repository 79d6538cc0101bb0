"""The command line: `python -m llmlat`, or `llmlat`."""

import errno
import os
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from llmlat import config
from llmlat.errors import LlmlatError
from llmlat.jobs import edge
from llmlat.jobs.interrupts import no_ctrl_c_is_lost
from llmlat.jobs.logs import keep_to_lines, outlive_readers

# Hydra's own debug switch is ours too. It is then set for Hydra, which hands exceptions over instead of
# printing them its own way.
DEBUGGING = os.environ.get("HYDRA_FULL_ERROR") == "1"
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}

config.register()
edge.register()


@hydra.main(version_base="1.3", config_path=str(config.config_dir()), config_name="config")
def _job(composed: DictConfig) -> float:
    """Run one job, and return its mean absolute error, which a sweeper may minimise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from llmlat.jobs.job import Beside, Job, WhenDone, Work, attempt, set_aside_what_stays

    given = HydraConfig.get()
    is_sweep = given.mode is RunMode.MULTIRUN
    if is_sweep and given.job.num:
        set_aside_what_stays()
    job = Job(
        folder=Path(given.runtime.output_dir),
        number=given.job.num if is_sweep else None,
        overrides=config.as_given(given.overrides.task),
        shows_tracebacks=DEBUGGING,
    )

    @cache
    def settings() -> config.Config:
        return config.from_composed(composed)

    @cache
    def resolve() -> dict[str, Any]:
        settings()
        return config.resolved(composed)

    def work(when_done: WhenDone) -> dict[str, Any]:
        from llmlat import pipeline

        return pipeline.run(settings(), resolve(), job.folder, when_done, is_summarised=not is_sweep)

    def portable_work() -> Work | None:
        from llmlat import pipeline

        known = pipeline.with_dataset(settings())
        if known is None:
            return None
        return partial(pipeline.run, known, resolve(), job.folder, is_summarised=False)

    def known_key() -> str | None:
        from llmlat import pipeline

        return pipeline.key_of_data(settings())

    workers = edge.workers_of(given)
    beside = Beside(workers, portable_work, edge.logging_of(given)) if workers else None
    try:
        return attempt(job, resolve, work, beside, known_key)
    except LlmlatError:
        sys.exit(1)  # it is logged; Hydra would add a line of its own


def main() -> None:
    """Run the command line.

    Exits with 0; 1 where a run or one of a sweep's jobs failed; 2 where the command cannot be composed; 130
    after Ctrl-C.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"
    if not DEBUGGING:
        keep_to_lines()
    outlive_readers()
    try:
        with no_ctrl_c_is_lost():
            _job()
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {edge.how_to_go_on(interrupt)}", file=sys.stderr)
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        from llmlat.config_errors import explain, is_of_the_command_line

        if DEBUGGING or not is_of_the_command_line(error):
            raise
        print(f"error: {explain(error, config.Config)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if DEBUGGING or error.errno not in UNWRITABLE:
            raise
        where = "hydra.run.dir, hydra.sweep.dir and datasets_dir say where to write"
        print(f"error: {error}; {where}.", file=sys.stderr)
        sys.exit(1)
    finally:
        edge.WORKERS.kill()


if __name__ == "__main__":
    main()
