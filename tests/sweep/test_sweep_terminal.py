"""The lines for the terminal, and `python -m llmlat.report` for sweeps and runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_metrics import metrics_of

from llmlat.files import write_json
from llmlat.report.__main__ import main
from llmlat.sweep import summarise, terminal_lines

MakeJob = Callable[..., Path]


def test_the_lines_fit_and_say_what_was_chosen(grid: Path) -> None:
    lines = terminal_lines(summarise(grid), plain=True, ascii_only=False)
    assert max(len(line) for line in lines[:-1]) <= 80
    text = " ".join(" ".join(lines).split())
    assert "prompt_set=short: alpha=1, validation MAE 0.9000 ms, then on test 1.100 ms" in text
    assert "prompt_set=chat alpha=10 2.900 3.500 done" in text
    assert lines[-1] == f"Sweep       {grid / 'sweep.html'}"


def test_colours_and_letters_are_as_the_terminal_takes_them(grid: Path) -> None:
    summary = summarise(grid)
    assert "\x1b[" in "".join(terminal_lines(summary, plain=False))
    lines = terminal_lines(summary, plain=True, ascii_only=True)
    assert "\x1b[" not in "".join(lines)
    assert "".join(lines[:-1]).isascii()


def test_failed_jobs_and_markup_are_shown_as_they_are(make_job: MakeJob) -> None:
    make_job(
        0, ["model.name='[red]x[/red]'"], failed={"error_class": "ModelError", "message": "[bold]no[/x]"}
    )
    make_job(1, ["model.name=y"])
    lines = terminal_lines(summarise(make_job(2, ["model.name=z"], metrics_of())), plain=True)
    text = " ".join(lines)
    assert "name=[red]x[/red]" in text
    assert "failed ModelError" in text
    assert "ModelError: [bold]no[/x]" in text
    assert "killed" in text


def test_many_jobs_are_shortened(make_job: MakeJob) -> None:
    for number in range(60):
        block = {"mae_ms": 1.0 + number, "rmse_ms": 1.0}
        folder = make_job(number, [f"regressor.alpha={number}"], metrics_of(validation=block))
    lines = terminal_lines(summarise(folder), plain=True)
    assert len(lines) < 30
    assert "59 more jobs; sweep.html has them all." in " ".join(" ".join(lines).split())


def report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["llmlat.report", str(folder)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_sweeps_folder_is_summed_up(
    grid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(grid, monkeypatch) == 0
    assert str(grid / "sweep.html") in capsys.readouterr().out
    assert (grid / "sweep.csv").is_file()


def test_a_runs_report_is_made_again_to_the_letter(real_sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = real_sweep / "3"
    made = {path: path.read_bytes() for path in [run / "report.md", *run.glob("figures/*.svg")]}
    for path in made:
        path.unlink()
    # Where the sweep was run, before the fixture moved it.
    moved = real_sweep.parents[2]
    described = (run / "dataset.json").read_text().replace(str(moved.with_name("sweeping")), str(moved))
    write_json(run / "dataset.json", json.loads(described))
    assert report(run, monkeypatch) == 0
    assert {path: path.read_bytes() for path in made} == made


def test_what_cannot_be_reported_is_one_line(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_job(0, ["a=1"], metrics_of())
    sweep = make_job(1, ["a=1"], failed={"error_class": "E", "message": "m"})
    (tmp_path / "empty").mkdir()
    for folder, said in {
        tmp_path / "nowhere": "no such folder",
        tmp_path / "empty": "no job is below it",
        sweep / "0": "dataset.json: missing or unreadable",
        sweep / "1": "a run without a result",
    }.items():
        assert report(folder, monkeypatch) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"error: {folder}")
        assert said in shown.err
        assert shown.err.count("\n") == 1


def test_the_command_has_help() -> None:
    command = [sys.executable, "-m", "llmlat.report", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert run.returncode == 0
    assert "folder" in run.stdout
