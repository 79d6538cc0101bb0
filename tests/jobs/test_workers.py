"""The processes beside a sweep's own: what they do, what becomes of it, and that they are gone in time."""

import math
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from llmlat.jobs import edge
from llmlat.jobs.folder import SweepFolder
from llmlat.jobs.job import Beside, Job, WhenDone, attempt
from llmlat.jobs.outcome import read_outcome
from llmlat.jobs.workers import N_WORKERS, Workers

Arguments = Callable[..., list[str]]

HERE = str(Path(__file__).parent)
METRICS = {"mae_ms": 1.25, "dataset_key": "0123"}


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.kill()


@pytest.fixture
def job(tmp_path: Path) -> Callable[[int], Job]:
    """Return a function that makes a job of a sweep, as Hydra and `job_subfolder` do."""
    sweep = SweepFolder(tmp_path)
    sweep.begin_command([["a=0"], ["a=1"], ["a=2"]], ["a"])

    def made(number: int) -> Job:
        folder = tmp_path / sweep.subfolder(number, {"a": number})
        folder.mkdir(exist_ok=True)
        return Job(folder, number, [f"a={number}"])

    return made


def status(job: Job) -> str:
    return read_outcome(job.folder).status


def hand_over(workers: Workers, job: Job, work: Any) -> float:
    """Attempt a job whose work another process can do, and which must not be done here."""
    return attempt(job, dict, pytest.fail, Beside(workers, lambda: work, partial(int)))


def test_nothing_is_at_work_beside_a_measurement(workers: Workers, job: Callable[[int], Job]) -> None:
    first, second = job(0), job(1)
    hand_over(workers, first, partial(deadly_slow, 1.0))
    assert multiprocessing.active_children()
    seen = []

    def measure(when_done: WhenDone) -> dict[str, Any]:
        seen.extend([status(first), multiprocessing.active_children()])
        return METRICS

    attempt(second, dict, measure, Beside(workers, lambda: None, partial(int)))
    assert seen == ["done", []]
    assert status(second) == "done"


def killed(when_done: WhenDone) -> None:
    os._exit(9)


def deadly_slow(seconds: float, when_done: WhenDone) -> dict[str, Any]:
    time.sleep(seconds)
    return METRICS


def test_a_job_is_done_only_when_its_work_is(workers: Workers, job: Callable[[int], Job]) -> None:
    assert math.isnan(hand_over(workers, job(0), partial(deadly_slow, 1.0)))
    assert status(job(0)) == "killed", "as long as it has not ended, it may have been"
    workers.end()
    assert status(job(0)) == "done"
    assert multiprocessing.active_children() == []


def test_what_kills_its_process_costs_only_its_job(
    workers: Workers, job: Callable[[int], Job], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llmlat")
    hand_over(workers, job(0), killed)
    hand_over(workers, job(1), partial(deadly_slow, 0.5))
    workers.end()
    hand_over(workers, job(2), partial(deadly_slow, 0.0))
    workers.end()
    assert [status(job(number)) for number in range(3)] == ["killed", "done", "done"]
    assert "[1/3] a=0  KILLED: its process ended without a word" in caplog.text
    assert "its process was killed" in SweepFolder(job(0).folder.parent).command["lost"]["0"][0]


def test_work_that_cannot_be_handed_over_fails_with_its_reason(
    workers: Workers, job: Callable[[int], Job]
) -> None:
    hand_over(workers, job(0), lambda: METRICS)
    workers.end()
    outcome = read_outcome(job(0).folder)
    assert outcome.status == "failed"
    assert "pickle" in outcome.said["message"]


def test_no_more_are_at_work_than_there_are_processes(workers: Workers) -> None:
    def lost(error: BaseException) -> None:
        raise error

    for _ in range(2 * N_WORKERS):
        workers.hand_over(lost, time.sleep, 0.1)
        assert len(multiprocessing.active_children()) <= N_WORKERS
    workers.hand_over(lost, os._exit, 1)
    with pytest.raises(BrokenProcessPool):
        workers.end()


@pytest.mark.parametrize(
    "override",
    [
        {"mode": None},
        {"launcher": {"_target_": "hydra_plugins.llmlat_launchers.LocalLauncher"}},
        {"sweeper": {"_target_": "a.sweeper.that.looks.at.Results"}},
        {"job": {"chdir": True, "env_set": {}}},
        {"job": {"chdir": False, "env_set": {"A": "1"}}},
    ],
    ids=str,
)
def test_a_job_stays_here_where_its_place_or_its_value_matters(override: dict[str, Any]) -> None:
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    plain = {
        "mode": RunMode.MULTIRUN,
        "launcher": {"_target_": edge.BASIC_LAUNCHER},
        "sweeper": {"_target_": edge.BASIC_SWEEPER},
        "job": {"chdir": False, "env_set": {}},
    }
    assert edge.workers_of(OmegaConf.create(plain)) is edge.WORKERS
    assert edge.workers_of(OmegaConf.create({**plain, **override})) is None


def test_a_report_that_cannot_be_drawn_fails_its_job_alone(cli: SimpleNamespace, sweep: Arguments) -> None:
    arguments = sweep("Slow", "sweep", "1,2")
    assert cli.run(*arguments, PYTHONPATH=HERE).returncode == 0
    folder = cli.folder / "sweep"
    (folder / "1" / "DONE.json").unlink()
    shutil.rmtree(folder / "1" / "figures")
    (folder / "1" / "figures").write_text("no folder")
    again = cli.run(*arguments, PYTHONPATH=HERE)
    assert again.returncode == 1
    failed = read_outcome(folder / "1")
    assert (failed.status, failed.said["error_class"]) == ("failed", "NotADirectoryError")
    assert any("report" in line for line in failed.said["traceback_tail"])
    assert re.search(r"^\[2/2\] .* FAILED  NotADirectoryError", again.stderr, re.MULTILINE)
    assert again.stderr.count("done before") == 1
    assert "Traceback" not in again.stderr
    said = (folder / "1" / "llmlat.log").read_text()
    assert "[2/2]" in said, "what another process says of a job is in the job's own log"
    assert "[1/2]" not in said


def test_a_regressor_that_kills_its_process_leaves_the_sweep_standing(
    cli: SimpleNamespace, sweep: Arguments
) -> None:
    run = cli.run(*sweep("Deadly", "sweep", "1,13,10"), PYTHONPATH=HERE)
    assert run.returncode == 1
    statuses = [read_outcome(cli.folder / "sweep" / name).status for name in "012"]
    assert statuses == ["done", "killed", "done"]
    assert "regressor.alpha=13  KILLED" in run.stderr
    assert "Traceback" not in run.stderr


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return every process that works in a folder, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def at_work(folder: Path) -> bool:
    """Tell whether jobs are at work: each holds its lock."""
    return len(list((folder / "sweep" / ".jobs").glob("[0-9].lock"))) == 2


def none_left(folder: Path) -> bool:
    deadline = time.monotonic() + 10
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not processes_in(folder)


@pytest.mark.parametrize("how", ["ctrl-c", "killed", "terminated"])
def test_however_a_sweep_ends_no_process_stays(cli: SimpleNamespace, sweep: Arguments, how: str) -> None:
    process = cli.start(*sweep("Slow", "sweep", "1,2,3"), PYTHONPATH=HERE, FIT_SECONDS="60")
    deadline = time.monotonic() + 60
    while not at_work(cli.folder):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if how == "ctrl-c":
        for one in processes_in(cli.folder):  # as a terminal does
            one.send_signal(signal.SIGINT)
    else:
        process.send_signal({"killed": signal.SIGKILL, "terminated": signal.SIGTERM}[how])
    _, errors = process.communicate(timeout=20)
    assert none_left(cli.folder)
    assert "Traceback" not in errors
    if how == "ctrl-c":
        assert process.returncode == 130
        assert errors.splitlines()[-1] == (
            "interrupted: run the same command to resume, with hydra.sweep.dir=sweep"
        )
    assert [read_outcome(cli.folder / "sweep" / name).status for name in "01"] == ["killed", "killed"]
