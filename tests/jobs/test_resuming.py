"""A sweep that is resumed: what counts as done, what is read again, and what a folder keeps of before."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from llmlat.config import as_typed, override
from llmlat.dataset import Dataset
from llmlat.jobs import edge, outcome
from llmlat.jobs.folder import STATE
from llmlat.jobs.interrupts import no_ctrl_c_is_lost
from llmlat.sweep import read_jobs

Arguments = Callable[..., list[str]]
TABLE = ("table.path=rows.csv", "table.latency=itl_ms", "table.group=[batch_size]", "features.columns=[tp]")


def write_table(path: Path, times: float = 1.0) -> None:
    rows = [{"tp": 1 + n % 4, "batch_size": n, "itl_ms": times * (5 + n % 4 + n % 3)} for n in range(60)]
    pd.DataFrame(rows).to_csv(path, index=False)


def sweep_of_a_table(cli: SimpleNamespace) -> subprocess.CompletedProcess[str]:
    swept = ("regressor.alpha=1,2", "hydra.sweep.dir=sweep", "-m")
    run: subprocess.CompletedProcess[str] = cli.run(*TABLE, "split=by_request", *swept)
    return run


def test_jobs_over_a_table_that_has_changed_are_done_again(cli: SimpleNamespace) -> None:
    write_table(cli.folder / "rows.csv")
    assert sweep_of_a_table(cli).returncode == 0
    before = read_jobs(cli.folder / "sweep")
    assert sweep_of_a_table(cli).stderr.count("done before") == 2
    write_table(cli.folder / "rows.csv", times=10)
    again = sweep_of_a_table(cli)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done on other data") == 2, again.stderr
    after = read_jobs(cli.folder / "sweep")
    assert after["mae_ms"].tolist() == pytest.approx((10 * before["mae_ms"]).tolist())
    assert set(after["dataset_key"]).isdisjoint(before["dataset_key"])


@pytest.mark.parametrize("state", ["", '{"folders": 5}'])
def test_a_sweep_whose_state_is_lost_does_nothing_twice(
    cli: SimpleNamespace, sweep: Arguments, state: str
) -> None:
    arguments = sweep("Slow", "sweep", "1e-5,2", "split.test_size=0.25")
    where = str(Path(__file__).parent)
    assert cli.run(*arguments, PYTHONPATH=where).returncode == 0
    (cli.folder / "sweep" / STATE).write_text(state)
    again = cli.run(*arguments, PYTHONPATH=where)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done before") == 2, again.stderr
    assert "state.json is missing or damaged" in again.stderr
    assert read_jobs(cli.folder / "sweep")["job"].tolist() == ["0", "1"]


def test_a_folder_that_is_used_again_keeps_nothing_of_before(cli: SimpleNamespace, dataset: Dataset) -> None:
    run = cli.run(f"dataset={dataset.folder}", "hydra.run.dir=run")
    assert run.returncode == 0, run.stderr
    (cli.folder / "run" / "predictor.joblib").write_bytes(b"an older version's")
    (cli.folder / "run" / "own.txt").write_text("mine")
    assert cli.run(f"dataset={dataset.folder}", "hydra.run.dir=run", "features.columns=[x]").returncode == 1
    left = {path.name for path in (cli.folder / "run").rglob("*") if path.is_file()}
    hydras = {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert left - hydras == {"FAILED.json", "llmlat.log", "own.txt"}


def test_a_reader_that_ends_is_no_failure(cli: SimpleNamespace, dataset: Dataset) -> None:
    command = [sys.executable, "-m", "llmlat", f"dataset={dataset.folder}", "tracking=none"]
    for arguments in (["hydra.run.dir=run"], ["--help"]):
        process = subprocess.Popen(
            [*command, *arguments], cwd=cli.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert "BrokenPipe" not in errors
    assert outcome.read_outcome(cli.folder / "run").status == "done"


def test_what_comes_after_the_results_costs_no_finished_job(tmp_path: Path) -> None:
    from llmlat.jobs.job import Job, attempt

    def work(when_done: Callable[[dict[str, object]], None]) -> dict[str, object]:
        when_done({"mae_ms": 1.5, "dataset_key": "0123"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(Job(tmp_path, None, []), dict, work)
    assert outcome.read_outcome(tmp_path).status == "done"


def test_ctrl_c_between_jobs_names_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.SweepCallback, "folder", Path("sweeps/one (two)"))
    said = edge.how_to_go_on(KeyboardInterrupt())
    assert said == """run the same command to resume, with "hydra.sweep.dir='sweeps/one (two)'\""""


def test_ctrl_c_that_a_library_swallows_comes_again() -> None:
    def press_and_lose() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        except BaseException:
            pass

    def pressed() -> None:
        with no_ctrl_c_is_lost():
            press_and_lose()
            time.sleep(20)

    before = signal.getsignal(signal.SIGINT)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert time.monotonic() - started < 10
    assert signal.getsignal(signal.SIGINT) is before


def test_clearing_up_after_ctrl_c_is_left_in_peace() -> None:
    cleared = []

    def pressed() -> None:
        with no_ctrl_c_is_lost():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            finally:
                time.sleep(2.5)
                cleared.append(True)

    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert cleared == [True]


@pytest.mark.parametrize(
    "text",
    [
        "a/b",
        "it's",
        "a b (c)",
        "x=y,z",
        "\\'",
        "end\\",
        "a\\b",
        "null",
        "1",
        "1e5",
        "1_0",
        "$HOME `id`",
        '"',
        "",
    ],
)
def test_advice_is_read_back_by_the_shell_and_by_hydra(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(override("name", text)).value() == text
    typed = subprocess.run(
        ["sh", "-c", f"printf %s {as_typed('name', text)}"], capture_output=True, text=True
    )
    assert typed.stdout == override("name", text)
