"""Hydra's submitit launchers, which wait for every job and survive those that are killed.

Hydra wants its plugins in this package. The launchers of hydra-submitit-launcher give up on a sweep at the
first job whose process ended without a word, and say nothing until the last.
"""

import logging
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
    PATIENCE_S = 2.0  # after Ctrl-C, for a job to end by itself
    LAST_LINES = 20
    KILLED = "its process was killed{}: by the system, where memory ran out, or by hand"
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
            from llmlat.jobs.folder import SweepFolder

            sweep = SweepFolder(Path(str(self.config.hydra.sweep.dir)))
            sweep.path.mkdir(parents=True, exist_ok=True)
            self._jobs: list[Any] = []
            with self._ending_with_this():
                jobs = self._submit(job_overrides, initial_job_idx)
                log.info(f"{len(jobs)} jobs, a process each; what they say is in {self._logs(jobs)}")
                self._wait(sweep, dict(enumerate(jobs, start=initial_job_idx)), job_overrides)
                return [self._returned(job) for job in jobs]

        def _submit(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
            arguments = [
                (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
                for number, overrides in enumerate(job_overrides, start=first)
            ]
            try:
                self._jobs = list(self._executor().map_array(self, *zip(*arguments, strict=True)))
            except Exception as error:  # no Slurm here, or it refuses
                message = " ".join(str(error).split()) or type(error).__name__
                raise HydraException(f"hydra/launcher: {self._EXECUTOR} takes no jobs: {message}") from error
            return self._jobs

        @contextmanager
        def _ending_with_this(self) -> Iterator[None]:
            """Have Ctrl-C end the jobs too."""
            try:
                yield
            except KeyboardInterrupt:
                self._cancel()
                raise

        def _cancel(self) -> None:
            for job in self._jobs:
                job.cancel(check=False)

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

        def _wait(self, sweep: Any, running: dict[int, Any], job_overrides: Sequence[Sequence[str]]) -> None:
            from llmlat.jobs.progress import is_lost, job_line

            first = min(running)
            while running:
                for number in [number for number, job in running.items() if job.done()]:
                    job = running.pop(number)
                    if is_lost(sweep, number):
                        sweep.note_lost(number, self._last_words(job))
                    log.info(job_line(sweep, number, job_overrides[number - first]))
                time.sleep(POLL_S if running else 0)

        def _last_words(self, job: Any) -> list[str]:
            """Return why a process may have ended without a word, and the end of what it said before."""
            said = (job.stderr() or "").splitlines()[-LAST_LINES:]
            if job.paths.result_pickle.exists():  # it could still tell submitit
                return [f"its process ended with {said[-1] if said else 'an error'}", *said]
            return [KILLED.format(self._state(job)), *said]

        def _state(self, job: Any) -> str:
            return ""

        def _returned(self, job: Any) -> JobReturn:
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
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            if self._devices is None:
                os.environ.pop(DEVICES, None)
            else:
                os.environ[DEVICES] = self._devices
            return super().__call__(*arguments)

        def _submit(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
            # Inherited by the process that watches each job: Ctrl-C would only have it say a traceback.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                return super()._submit(job_overrides, first)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        def _cancel(self) -> None:
            import psutil

            # Looked for at once: what outlives its parent is no longer found below this process.
            _end(psutil.Process().children(recursive=True))

        def _returned(self, job: Any) -> JobReturn:
            # Where its process has ended, what it returned is on this disk or nowhere: submitit waits for it.
            job._results_timeout_s = 0
            return super()._returned(job)

    class SlurmLauncher(_PatientLauncher):
        """A Slurm job a job."""

        _EXECUTOR = "slurm"

        def _state(self, job: Any) -> str:
            return f" ({job.state})"

    def _end(processes: list[Any]) -> None:
        """Wait for processes to end, as Ctrl-C in a terminal has them do, and end those that stay."""
        import psutil

        try:
            for urge in (psutil.Process.terminate, psutil.Process.kill):
                _, processes = psutil.wait_procs(processes, timeout=PATIENCE_S)
                for process in processes:
                    with suppress(psutil.NoSuchProcess):
                        urge(process)
        except KeyboardInterrupt:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            raise
