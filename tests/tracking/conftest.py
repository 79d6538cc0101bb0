"""A machine that W&B has never been used on, and a server of our own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from fake_wandb_server import KEY, FakeServer, serving
from tracked_sweeps import make_sweep

from llmlat.tracking import session


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working folder, no WANDB_ variables, and a base URL where nobody listens."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run folder, with a space in its name."""
    path = tmp_path / "a run"
    path.mkdir()
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that answers, named in the environment with a key."""
    with serving() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits, where a test is not about how long they are."""
    monkeypatch.setattr(session, "PROBE_LIMIT_S", 1.0)
    monkeypatch.setattr("llmlat.tracking.weights_and_biases.FINISH_CHECK_S", 0.5)
    monkeypatch.setattr("llmlat.tracking.team_report.SEND_CHECK_S", 0.5)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Where a sweep will be, with a space in its name."""
    return tmp_path / "multirun_sweeps" / "thesis_sweep" / "2026-11-22 09-00"


@pytest.fixture
def jobs(sweep: Path) -> pd.DataFrame:
    return make_sweep(sweep)
