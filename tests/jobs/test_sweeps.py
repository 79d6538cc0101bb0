"""Sweeps for real: jobs that fail, jobs that are killed, and what running again makes of them."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import psutil

from llmlat.dataset import Dataset
from llmlat.sweep import read_jobs

Arguments = Callable[..., list[str]]

HERE = str(Path(__file__).parent)


def outcomes(folder: Path) -> dict[str, str]:
    """Return how each job of a sweep ended."""
    found = {}
    for job in sorted(path for path in folder.iterdir() if path.name.isdecimal()):
        kinds = [kind for kind in ("DONE", "FAILED") if (job / f"{kind}.json").exists()]
        found[job.name] = kinds[0] if kinds else "killed"
        assert len(kinds) < 2
    return found


def metrics(folder: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}


def job_lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if re.match(r"\[\d+/\d+\] ", line)]


def test_a_sweep_measures_once_a_prompt_set_and_loses_only_what_fails(
    cli: SimpleNamespace, tiny: tuple[str, ...]
) -> None:
    arguments = [*tiny, "prompt_set.limit=4", "prompt_set.max_new_tokens=6", "hydra.sweep.dir=sweep"]
    crossed = ["prompt_set=short,chat", "regressor.alpha=1,-1,10", "-m"]
    run = cli.run(*arguments, *crossed)
    folder = cli.folder / "sweep"
    assert run.returncode == 1
    assert outcomes(folder) == dict(zip("012345", ["DONE", "FAILED", "DONE"] * 2, strict=True))
    assert len(list((cli.folder / "outputs" / "datasets").iterdir())) == 2
    assert "Traceback" not in run.stderr + run.stdout
    lines = job_lines(run.stderr)
    assert len(lines) == 6
    assert re.match(
        r"\[1/6\] prompt_set=short regressor.alpha=1  MAE \S+ ms  \S+ s  about .* left$", lines[0]
    )
    assert re.match(r"\[2/6\] prompt_set=short regressor.alpha=-1  FAILED  ConfigError: regressor", lines[1])
    assert "Launching" not in run.stderr + run.stdout
    assert (folder / "sweep.html").is_file()
    assert str(Path("sweep") / "sweep.html") in run.stdout
    failed = json.loads((folder / "1" / "FAILED.json").read_text())
    assert failed["error_class"] == "ConfigError"
    assert failed["traceback_tail"][-1].startswith("llmlat.errors.ConfigError: regressor")
    assert "Traceback" in (folder / "1" / "llmlat.log").read_text()
    done = json.loads((folder / "0" / "DONE.json").read_text())
    assert done["config"]["regressor"]["alpha"] == 1
    assert done["mae_ms"] == metrics(folder)["0"]["mae_ms"]


def test_an_unexpected_error_costs_only_its_job(cli: SimpleNamespace, sweep: Arguments) -> None:
    run = cli.run(*sweep("Faulty", "sweep", "13,1"), PYTHONPATH=HERE)
    assert run.returncode == 1
    assert outcomes(cli.folder / "sweep") == {"0": "FAILED", "1": "DONE"}
    assert "Traceback" not in run.stderr
    assert "FAILED  RuntimeError: a bug, and no setting's fault" in job_lines(run.stderr)[0]
    assert "in fit" in (cli.folder / "sweep" / "0" / "llmlat.log").read_text()


def test_a_sweep_killed_and_resumed_equals_one_never_killed(cli: SimpleNamespace, sweep: Arguments) -> None:
    process = cli.start(*sweep("Slow", "killed", "1,2,3"), PYTHONPATH=HERE, FIT_SECONDS="0.3")
    first = cli.folder / "killed" / "0" / "DONE.json"
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    n_done = list(outcomes(cli.folder / "killed").values()).count("DONE")
    assert 1 <= n_done < 3
    rows = read_jobs(cli.folder / "killed").set_index("regressor.alpha")["status"]
    assert rows.index.tolist() == [1, 2, 3], "those that were never begun have a row too"
    assert set(rows) <= {"done", "killed", "not begun"}
    assert rows.tolist().count("done") == n_done
    written = first.stat().st_mtime_ns
    # Another list of values: what was begun keeps its folder, and nothing is written over.
    resumed = cli.run(*sweep("Slow", "killed", "0.5,1,2"), PYTHONPATH=HERE)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr.count("done before") == n_done
    assert first.stat().st_mtime_ns == written
    whole = cli.run(*sweep("Slow", "whole", "1,2,0.5"), PYTHONPATH=HERE)
    assert whole.returncode == 0, whole.stderr
    resumed_one, never_killed = (
        {found["regressor"]["parameters"]["alpha"]: found for found in metrics(cli.folder / name).values()}
        for name in ("killed", "whole")
    )
    assert set(never_killed) == {0.5, 1, 2}
    assert {alpha: resumed_one[alpha] for alpha in never_killed} == never_killed


def test_a_killed_process_costs_only_its_job(cli: SimpleNamespace, sweep: Arguments) -> None:
    arguments = sweep("Deadly", "sweep", "1,13,10", "hydra/launcher=local")
    run = cli.run(*arguments, PYTHONPATH=HERE)
    folder = cli.folder / "sweep"
    assert run.returncode == 1
    assert outcomes(folder) == {"0": "DONE", "1": "killed", "2": "DONE"}
    assert "Traceback" not in run.stderr + run.stdout
    (line,) = [line for line in job_lines(run.stderr) if "KILLED" in line]
    assert line.startswith("[2/3] +regressor.alpha=13")
    assert len(job_lines(run.stderr)) == 3
    assert (folder / "sweep.html").is_file()
    (killed,) = read_jobs(folder).query("status == 'killed'").to_dict("records")
    assert killed["error"].startswith("its process was killed: by the system")
    resumed = cli.run(*arguments, PYTHONPATH=HERE, SPARED="1")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr.count("done before") == 2
    assert set(outcomes(folder).values()) == {"DONE"}


def test_a_single_run_says_how_it_ended(cli: SimpleNamespace, sweep: Arguments) -> None:
    *arguments, _ = sweep("Faulty", "unused", "13", "hydra.run.dir=run")
    run = cli.run(*arguments, PYTHONPATH=HERE)
    assert run.returncode == 1
    assert run.stderr.count("Traceback (most recent call last)") == 1
    failed = json.loads((cli.folder / "run" / "FAILED.json").read_text())
    assert (failed["error_class"], failed["message"]) == ("RuntimeError", "a bug, and no setting's fault")


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


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not what():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_all(folder: Path, process: subprocess.Popen[str]) -> None:
    """Kill a sweep and every process of its jobs."""
    process.kill()
    while left := processes_in(folder):
        for one in left:
            one.kill()
        psutil.wait_procs(left, timeout=10)
    process.communicate()


def test_processes_killed_at_any_moment_and_resumed(cli: SimpleNamespace, tiny: tuple[str, ...]) -> None:
    measured = [*tiny, "prompt_set.limit=8", "prompt_set.max_new_tokens=24", "regressor.alpha=1,10"]
    command = ["hydra/launcher=local", "hydra.sweep.dir=killed", *measured, "-m"]
    process = cli.start(*command)
    wait_for(lambda: list(cli.folder.glob("outputs/datasets/*/rows/request-*")), process)
    time.sleep(random.uniform(0, 2))  # it measures, or fits, or has ended: every moment must do
    kill_all(cli.folder, process)
    assert set(read_jobs(cli.folder / "killed")["regressor.alpha"]) == {1, 10}
    resumed = cli.run(*command)
    assert resumed.returncode == 0, resumed.stderr
    (dataset,) = (cli.folder / "outputs" / "datasets").iterdir()
    rows = Dataset(dataset).read().query("not is_warmup")
    assert len(rows) == 8 * 24
    assert not rows.duplicated(["request_id", "token_index"]).any()
    whole = cli.run(f"dataset={dataset}", "regressor.alpha=1,10", "hydra.sweep.dir=whole", "-m")
    assert whole.returncode == 0, whole.stderr
    one, other = (pd.read_parquet(cli.folder / name / "sweep.parquet") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))


def test_ctrl_c_ends_every_process_and_says_how_to_resume(cli: SimpleNamespace, sweep: Arguments) -> None:
    process = cli.start(
        *sweep("Slow", "sweep", "1,2", "hydra/launcher=local"), PYTHONPATH=HERE, FIT_SECONDS="60"
    )
    wait_for(lambda: len(list(cli.folder.glob("sweep/[0-9]/.hydra/overrides.yaml"))) == 2, process)
    for one in processes_in(cli.folder):  # as a terminal does
        one.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (
        "interrupted: run the same command to resume, with hydra.sweep.dir=sweep"
    )
    assert "Traceback" not in errors
    assert processes_in(cli.folder) == []
    assert set(read_jobs(cli.folder / "sweep")["status"]) == {"killed"}


def test_hydras_own_launcher_of_processes(cli: SimpleNamespace, sweep: Arguments) -> None:
    run = cli.run(*sweep("Slow", "sweep", "1,2", "hydra/launcher=submitit_local"), PYTHONPATH=HERE)
    assert run.returncode == 0, run.stderr
    assert outcomes(cli.folder / "sweep") == {"0": "DONE", "1": "DONE"}
    assert (cli.folder / "sweep" / "sweep.html").is_file()
