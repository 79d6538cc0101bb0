"""Hydra's submitit launchers, which wait for every job and survive those that are killed.

Hydra wants its plugins in this package. The launchers of hydra-submitit-launcher give up on a sweep at the
first job whose process ended without a word, and say nothing until the last.
"""

import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException

try:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
except ImportError:  # without the extra `slurm` there is nothing to offer
    __all__: list[str] = []
else:
    __all__ = ["LocalLauncher", "SlurmLauncher"]

    log = logging.getLogger("llmlat")

    POLL_S = 0.3
    DEVICES = "CUDA_VISIBLE_DEVICES"

    class _PatientLauncher(BaseSubmititLauncher):  # type: ignore[misc, unused-ignore]
        """Tells how each job ended when it does, and returns only when all have."""

        def __call__(self, *arguments: Any) -> JobReturn:
            """Run one job, in its own process."""
            from llmlat import config
            from llmlat.jobs import edge

            config.register()
            edge.register()
            returned: JobReturn = super().__call__(*arguments)
            return returned

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Run every job in a process of its own, and wait for them all."""
            Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
            arguments = [
                (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
                for number, overrides in enumerate(job_overrides, start=initial_job_idx)
            ]
            try:
                jobs = self._executor().map_array(self, *zip(*arguments, strict=True))
            except Exception as error:  # no Slurm here, or it refuses
                message = " ".join(str(error).split()) or type(error).__name__
                raise HydraException(f"hydra/launcher: {self._EXECUTOR} takes no jobs: {message}") from error
            log.info(f"{len(jobs)} jobs, a process each; what they say is in {self._logs(jobs)}")
            try:
                self._wait(dict(enumerate(jobs, start=initial_job_idx)), job_overrides, initial_job_idx)
            except KeyboardInterrupt:
                for job in jobs:
                    job.cancel(check=False)
                raise
            return [_returned(job) for job in jobs]

        def _executor(self) -> Any:
            import submitit

            own = {"submitit_folder", "max_num_timeout"}
            timeouts = {f"{self._EXECUTOR}_max_num_timeout": self.params.get("max_num_timeout", 0)}
            executor = submitit.AutoExecutor(
                cluster=self._EXECUTOR,
                folder=self.params["submitit_folder"],
                **(timeouts if self._EXECUTOR == "slurm" else {}),
            )
            shared = set(BaseQueueConf.__dataclass_fields__)
            given = {key: value for key, value in self.params.items() if key not in own}
            executor.update_parameters(
                **{key if key in shared else f"{self._EXECUTOR}_{key}": v for key, v in given.items()}
            )
            return executor

        def _logs(self, jobs: Sequence[Any]) -> Path:
            return Path(jobs[0].paths.folder).parent

        def _wait(self, running: dict[int, Any], job_overrides: Sequence[Sequence[str]], first: int) -> None:
            from llmlat.jobs.folder import SweepFolder
            from llmlat.jobs.progress import job_line

            sweep = SweepFolder(Path(str(self.config.hydra.sweep.dir)))
            while running:
                for number in [number for number, job in running.items() if job.done()]:
                    del running[number]
                    log.info(job_line(sweep, number, job_overrides[number - first]))
                time.sleep(POLL_S if running else 0)

    def _returned(job: Any) -> JobReturn:
        """Return what a job returned; NaN where its process was killed, and then its folder tells."""
        try:
            returned: JobReturn = job.results()[0]
            return returned
        except Exception as error:
            log.debug(f"job {job.job_id}: {error}")
            return JobReturn(status=JobStatus.COMPLETED, _return_value=math.nan)

    class LocalLauncher(_PatientLauncher):
        """A process a job on this machine, all begun at once; they measure in turns."""

        _EXECUTOR = "local"

        def __init__(self, **parameters: Any) -> None:
            super().__init__(**parameters)
            self._devices = os.environ.get(DEVICES)

        def __call__(self, *arguments: Any) -> JobReturn:
            """Run one job, which sees the devices that the sweep sees: submitit would hide them."""
            if self._devices is None:
                os.environ.pop(DEVICES, None)
            else:
                os.environ[DEVICES] = self._devices
            return super().__call__(*arguments)

    class SlurmLauncher(_PatientLauncher):
        """A Slurm job a job."""

        _EXECUTOR = "slurm"
