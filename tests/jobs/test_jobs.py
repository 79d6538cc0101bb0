"""What a job leaves, which subfolder it gets, and the line that tells of it."""

import io
import json
import logging
import os
from pathlib import Path

import pytest
from tqdm import tqdm

from llmlat.errors import DatasetError
from llmlat.jobs import edge, outcome, progress
from llmlat.jobs.folder import SweepFolder
from llmlat.jobs.logs import BareFormatter, TerminalFilter, TerminalHandler
from llmlat.jobs.progress import job_line, unfinished

METRICS = {"mae_ms": 1.25, "dataset_key": "0123"}


def done(folder: Path, config: dict[str, object] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    outcome.write_done(folder, config or {}, METRICS, 2.0)


def test_done_is_told_by_the_full_configuration(tmp_path: Path) -> None:
    config = {"regressor": {"alpha": 1.0}, "seed": 0, "tags": ("a",)}
    assert not outcome.is_done(tmp_path, config)
    outcome.write_failed(tmp_path, ValueError("no"), 1)
    outcome.begin(tmp_path)
    assert outcome.read_outcome(tmp_path).status == "killed"
    done(tmp_path, config)
    assert outcome.is_done(tmp_path, config)
    assert not outcome.is_done(tmp_path, {**config, "seed": 1})
    (tmp_path / "DONE.json").write_text("{")
    assert not outcome.is_done(tmp_path, config)


def test_a_failure_says_what_and_where(tmp_path: Path) -> None:
    done(tmp_path)
    try:
        raise DatasetError("two\nlines")
    except DatasetError as error:
        outcome.write_failed(tmp_path, error, 1.0)
    assert not (tmp_path / "DONE.json").exists()
    said = json.loads((tmp_path / "FAILED.json").read_text())
    assert (said["error_class"], said["message"], said["seconds"]) == ("DatasetError", "two lines", 1.0)
    assert any("test_jobs.py" in line for line in said["traceback_tail"])
    assert len(said["traceback_tail"]) <= 20


def test_a_configuration_keeps_its_subfolder(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    sweep.begin_command([["a=0"], ["a=1"]], ["a"])
    assert [sweep.subfolder(n, {"a": n}) for n in range(2)] == ["0", "1"]
    sweep.begin_command([["a=7"], ["a=0"], ["a=1"]], ["a"])
    # 7 is new and comes first: its number is taken, so it gets a free one.
    assert [sweep.subfolder(n, {"a": a}) for n, a in enumerate((7, 0, 1))] == ["2", "0", "1"]
    assert sweep.job(0) == tmp_path / "2"
    assert sweep.job(5) is None


def test_a_folder_that_another_made_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    sweep = SweepFolder(tmp_path)
    sweep.begin_command(None, [])
    assert sweep.subfolder(0, {"a": 1}) == "1"


def test_lines_say_where_a_sweep_stands(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    sweep.begin_command([["seed=1"]] * 12, ["regressor.alpha", "+x"])
    for n in range(4):
        (tmp_path / sweep.subfolder(n, {"a": n})).mkdir()
    done(tmp_path / "0")
    os.utime(tmp_path / "0" / "DONE.json", (1, 1))
    overrides = ["seed=1", "regressor.alpha=0.1", "+x=2"]
    start = "regressor.alpha=0.1 +x=2  "
    assert job_line(sweep, 0, overrides) == f"[ 1/12] {start}MAE 1.25 ms  done before"
    done(tmp_path / "1")
    assert job_line(sweep, 1, overrides) == f"[ 2/12] {start}MAE 1.25 ms  2.0 s  about 1 s left"
    outcome.write_failed(tmp_path / "2", ValueError("x" * 500), 1)
    assert len(job_line(sweep, 2, overrides)) < 250
    assert "KILLED" in job_line(sweep, 3, overrides)
    assert "KILLED" in job_line(sweep, 9, overrides), "it was gone before it had a folder"
    assert unfinished(sweep) == list(range(2, 12))


@pytest.mark.parametrize(("seconds", "said"), [(0.1, "1 s"), (89, "89 s"), (100, "2 min"), (7200, "2.0 h")])
def test_durations(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


def record(name: str, level: int, message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "levelno": level, "msg": message, **extra})


def test_a_sweep_says_each_thing_once() -> None:
    shows = TerminalFilter("MULTIRUN").filter
    assert shows(record("llmlat.x", logging.WARNING, "STAND-IN for this test"))
    assert not TerminalFilter("MULTIRUN").filter(record("x", logging.WARNING, "STAND-IN for this test"))
    assert not shows(record("llmlat.x", logging.INFO, "routine", is_routine=True))
    assert shows(record("llmlat.x", logging.ERROR, "error"))
    assert not shows(record("llmlat.tracking.x", logging.INFO, "W&B offline"))
    single = TerminalFilter("RUN").filter
    assert single(record("llmlat.x", logging.INFO, "routine", is_routine=True))
    assert not single(record("llmlat.x", logging.ERROR, "told otherwise", is_for_the_file=True))


def test_tracebacks_are_for_the_file() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    one = record("x", logging.ERROR, "error: no", exc_info=info, shows_traceback=False)
    assert BareFormatter("%(message)s").format(one) == "error: no"
    one.shows_traceback = True
    assert "Traceback" in BareFormatter("%(message)s").format(one)


def test_what_goes_wrong_after_the_jobs_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise OSError("disk full")

    assert edge._attempt("summary", broken) is None
    assert caplog.messages == ["The sweep's summary was not made: OSError: disk full"]


def test_a_line_is_written_above_a_progress_bar_and_not_into_it() -> None:
    terminal = io.StringIO()
    handler = TerminalHandler(terminal)
    with tqdm(total=2, file=terminal, ncols=60) as bar:
        bar.update(1)
        handler.emit(record("x", logging.INFO, "a line of its own"))
    lines = [line.split("\r")[-1] for line in terminal.getvalue().split("\n")]
    assert "a line of its own" in lines
