"""The command line: `python -m llmlat`, or `llmlat`."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from llmlat import config
from llmlat.errors import LlmlatError

log = logging.getLogger("llmlat")

# Hydra's own debug switch is ours too. It is then set for Hydra, which hands exceptions over instead of
# printing them its own way.
DEBUGGING = os.environ.get("HYDRA_FULL_ERROR") == "1"

config.register()


@hydra.main(version_base="1.3", config_path=str(config.config_dir()), config_name="config")
def _job(composed: DictConfig) -> float:
    """Run one job, and return its mean absolute error, which a sweeper may minimise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    try:
        settings = config.from_composed(composed)
        from llmlat import pipeline

        resolved: Any = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
        metrics = pipeline.run(settings, resolved, Path(job.runtime.output_dir))
        return float(metrics["mae_ms"])
    except LlmlatError as error:
        log.error(f"error: {error}", exc_info=DEBUGGING)
        if job.mode is RunMode.MULTIRUN:
            raise
        sys.exit(1)


def main() -> None:
    """Run the command line.

    Exits with 0; 1 where a run or one of a sweep's jobs failed; 2 where the command cannot be composed; 130
    after Ctrl-C.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _job()
    except LlmlatError:
        sys.exit(1)  # a sweep's job, which has logged its line
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {interrupt}", file=sys.stderr)
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, AssertionError) as error:
        from llmlat.config_errors import explain, key_below_null

        if DEBUGGING or (isinstance(error, AssertionError) and key_below_null(error) is None):
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
