"""One measurement at a time on a device, and who is noticed beside it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from llmlat.dataset import Dataset
from llmlat.measure.machine import neighbours
from llmlat.measure.machine.device_lock import alone_on

CPU = torch.device("cpu")
HOLD = """
import pathlib, time, torch
from llmlat.measure.machine.device_lock import alone_on
with alone_on(torch.device("cpu"), pathlib.Path("the/holder")):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the locks of this test to itself."""
    place = tmp_path / "locks"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def test_two_runs_at_once_take_turns(cli: SimpleNamespace, tiny: tuple[str, ...], place: Path) -> None:
    arguments = [*tiny, "prompt_set.limit=3", "prompt_set.max_new_tokens=6"]
    with alone_on(CPU, Path("some/run")):
        runs = [cli.start(*arguments, f"seed={seed}") for seed in (1, 2)]
        said = ["", ""]
        for i, run in enumerate(runs):
            while "Waiting for" not in said[i]:
                said[i] = run.stderr.readline()
                assert said[i], "the run ended and waited for nobody"
    assert all(f"Waiting for process {os.getpid()} (some/run, since 20" in line for line in said)
    assert all("which measures on cpu" in line for line in said)
    for run in runs:
        _, errors = run.communicate(timeout=100)
        assert run.returncode == 0, errors
    spans = []
    for folder in (cli.folder / "outputs" / "datasets").iterdir():
        done = Dataset(folder).read()["completed_at_ns"]
        spans.append((done.min(), done.max()))
        (session,) = json.loads((folder / "provenance.json").read_text())["sessions"]
        assert set(session["foreign_processes"]) == {"count", "names"}
    (_, first_end), (second_start, _) = sorted(spans)
    assert first_end < second_start
    assert list(place.rglob("cpu.json")) == []


def test_a_dead_process_holds_nothing(place: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    began = time.monotonic()
    with alone_on(CPU, Path("next")):
        assert time.monotonic() - began < 1


def test_a_place_that_cannot_be_had_only_warns(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(place / "not there"))
    with alone_on(CPU, Path("run")):
        pass
    assert "nothing keeps other runs" in caplog.text


@pytest.fixture
def busy_stranger() -> Iterator[int]:
    """Start a process that spins, and is no child of this one."""
    spin = f"{sys.executable} -c 'while True: pass' >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", spin], capture_output=True, text=True, check=True).stdout)
    yield pid
    os.kill(pid, signal.SIGKILL)


def test_a_busy_process_is_noticed(
    busy_stranger: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine with much else to do it gets less than half a core.
    monkeypatch.setattr(neighbours, "BUSY_CORES", 0.05)
    name = psutil.Process(busy_stranger).name()
    time.sleep(0.3)
    pids = neighbours._on_cpu()
    assert busy_stranger in pids
    found = neighbours.notice_foreign_processes(CPU)
    assert found["count"] >= 1
    assert name in found["names"]
    (line,) = caplog.messages
    assert "at work on cpu" in line


def test_a_quiet_machine_is_not_worth_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(neighbours, "_on_cpu", list)
    assert neighbours.notice_foreign_processes(CPU) == {"count": 0, "names": []}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("pids", "holds_context", "foreign"),
    [
        ([os.getpid(), 1], True, [1]),
        ([2**22 + 1, 1], True, [1]),
        ([2**22 + 1, 1], False, [2**22 + 1, 1]),
        ([], True, []),
    ],
)
def test_who_is_foreign_on_a_gpu(pids: list[int], holds_context: bool, foreign: list[int]) -> None:
    assert neighbours.without_this_one(pids, holds_context=holds_context) == foreign
