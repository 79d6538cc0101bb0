import contextlib
import logging
import os
import pty
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_wandb_server import KEY, FakeServer
from tracked_runs import RUN_CONFIG, ReadBack, config, make_rows, said, script

from llmlat import tracking
from llmlat.config import TrackingMode
from llmlat.errors import ConfigError
from llmlat.tracking import session

# The probe takes 3 s and wandb's own opening half a second; the rest is for a busy machine. Without the probe
# it would be 90 s and more.
LIMIT_S = 10.0


@contextlib.contextmanager
def timed(limit: float = LIMIT_S) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit


def opened(folder: Path, caplog: pytest.LogCaptureFixture, mode: TrackingMode = TrackingMode.auto) -> str:
    """Open and end a run, and return the one line that it said."""
    caplog.set_level(logging.INFO)
    with tracking.start(config(mode=mode), RUN_CONFIG, folder) as tracker:
        tracker.log_request(None, make_rows(1))
    (line,) = [record for record in caplog.records if record.name.startswith("llmlat")]
    return f"{line.levelname} {line.getMessage()}"


def was_offline(folder: Path) -> bool:
    return "offline-run" in str(ReadBack(folder).log)


def test_without_a_key_it_is_offline_at_once(folder: Path, caplog: pytest.LogCaptureFixture):
    with timed():
        assert opened(folder, caplog).startswith("INFO W&B offline: no API key")
    assert was_offline(folder)


def test_without_a_key_at_a_terminal_it_does_not_prompt(folder: Path):
    ours, theirs = pty.openpty()
    process = script(
        f"""
from pathlib import Path
from tracked_runs import RUN_CONFIG, config
from llmlat import tracking
assert sys.stdin.isatty() and sys.stderr.isatty()
with tracking.start(config(), RUN_CONFIG, Path({str(folder)!r})) as tracker:
    print(tracker.where)
""",
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        assert process.wait(timeout=20) == 0
        said = os.read(ours, 10_000).decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert said.startswith("wandb sync ")
    assert said.count("\n") == 1


def test_a_server_that_hangs_means_offline_within_seconds(
    folder: Path, server: FakeServer, caplog: pytest.LogCaptureFixture
):
    server.behaviour = "hang"
    with timed():
        line = opened(folder, caplog)
    assert line.startswith(f"WARNING W&B offline: {server.url} did not answer within 3 s. To send it later: ")
    assert was_offline(folder)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_fails_means_offline(
    folder: Path, server: FakeServer, caplog: pytest.LogCaptureFixture
):
    server.behaviour = "error"
    assert "did not answer" in opened(folder, caplog)
    assert was_offline(folder)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_not_there_means_offline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert "did not answer" in opened(folder, caplog)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_accepts_means_offline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    # One connection fills the queue; the next is neither refused nor accepted.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert "did not answer" in opened(folder, caplog)
    assert was_offline(folder)


def test_a_key_that_the_server_refuses_means_offline(
    folder: Path, server: FakeServer, caplog: pytest.LogCaptureFixture
):
    server.behaviour = "refuse_key"
    assert f"Failed to authenticate with {server.url}: this is a test" in opened(folder, caplog)


def test_a_key_that_is_none_means_offline(
    folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    assert "WANDB_API_KEY invalid: API key must have 40+ characters" in opened(folder, caplog)
    assert server.paths == set()


def test_a_server_that_opens_no_run_means_offline(
    folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setitem(session.QUIET, "init_timeout", 1.0)
    server.behaviour = "hang_runs"
    caplog.set_level(logging.INFO)
    with timed(), tracking.start(config(), RUN_CONFIG, folder) as tracker:
        tracker.log_request(None, make_rows(1))
    (line,) = said(caplog)
    assert line.startswith("W&B offline: ")
    assert tracker.where is not None
    assert "offline-run" in tracker.where


def test_a_key_in_netrc_counts(folder: Path, home: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_API_KEY")
    netrc = home / ".netrc"
    netrc.write_text(f"machine {server.url.removeprefix('http://')}\n  login user\n  password {KEY}\n")
    netrc.chmod(0o600)
    with tracking.start(config(), RUN_CONFIG, folder) as tracker:
        assert tracker.where is not None
        assert tracker.where.startswith(server.url)


@pytest.mark.usefixtures("impatient")
def test_online_without_a_server_is_an_error(folder: Path, server: FakeServer):
    server.behaviour = "hang"
    with timed(), pytest.raises(ConfigError, match=r"^tracking.mode=online.*tracking.mode=offline") as caught:
        tracking.start(config(mode=TrackingMode.online), RUN_CONFIG, folder)
    assert "\n" not in str(caught.value)
    assert not [name for name in os.environ if name in {"WANDB_DATA_DIR", "WANDB_CACHE_DIR"}]


def test_online_without_a_key_is_an_error_at_once(folder: Path):
    with timed(), pytest.raises(ConfigError, match="no API key"):
        tracking.start(config(mode=TrackingMode.online), RUN_CONFIG, folder)


def test_wandb_mode_offline_is_heeded(
    folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert opened(folder, caplog).startswith("INFO W&B offline: W&B is set to offline")
    assert server.paths == set()


def test_wandb_offline_in_the_working_folder_is_heeded(
    folder: Path, server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert opened(folder, caplog).startswith("INFO W&B offline: W&B is set to offline")
    assert server.paths == set()


def test_wandb_mode_disabled_logs_nothing(
    folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert opened(folder, caplog) == "INFO W&B off: WANDB_MODE=disabled."
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert server.paths == set()


def test_wandb_mode_online_insists(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(ConfigError, match="WANDB_MODE"):
        tracking.start(config(), RUN_CONFIG, folder)


def test_the_config_outranks_wandb_mode(folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with tracking.start(config(mode=TrackingMode.online), RUN_CONFIG, folder) as tracker:
        assert tracker.where is not None
        assert tracker.where.startswith(server.url)
