"""What all tests share: a quiet, isolated environment, composed configs, token rows and the command line.

No torch here: the predicting half is tested without it.
"""

# ruff: noqa: E402 - the environment is set before anything reads it

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Where the tests are started in the background, Ctrl-C is ignored, and by every process that they start too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before anything imports torch or numpy: two workers share two cores, so a thread each.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"
# Nothing leaves the machine: the Hub is a closed port (a test that wants one points at its own server), its
# cache is empty, and W&B has no key.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="llmlat-hf-")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for _variable in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE", "HYDRA_FULL_ERROR"):
    os.environ.pop(_variable, None)
for _variable in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[_variable]
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["WANDB_DIR"] = tempfile.mkdtemp(prefix="llmlat-wandb-")
os.environ["NETRC"] = os.devnull

import pandas as pd
import pytest
from filelock import FileLock

import llmlat.config
from llmlat.config import Config
from llmlat.dataset import Dataset
from llmlat.jobs.logs import TerminalHandler
from llmlat.records import COLUMNS, DECODE, PREFILL, SERVED, TELEMETRY

pytest_plugins = ["known_rows"]

TINY = (
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=128",
    "model.architecture.num_hidden_layers=2",
    "model.architecture.num_attention_heads=4",
    "model.architecture.num_key_value_heads=2",
    "model.architecture.head_dim=16",
)
"""Overrides that shrink mistral-mini to what loads and decodes in no time; its tokenizer stays."""


@pytest.fixture(autouse=True)
def no_logging_left_behind() -> None:
    """Take back what a command line run in this process did to logging: its streams are closed by now."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) in {logging.StreamHandler, logging.FileHandler, TerminalHandler}:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(logging.WARNING)
    logging.getLogger("llmlat").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture(scope="session")
def shown_files() -> Callable[[Path], dict[str, str]]:
    """Return a function that finds the files that a page shows whole: a code block behind the file's name."""

    def of(page: Path) -> dict[str, str]:
        blocks = r"^`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)^```"
        return dict(re.findall(blocks, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))

    return of


@pytest.fixture(scope="session")
def compose() -> Callable[..., Config]:
    """Return a function that composes a config as the command line does, into plain objects."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    llmlat.config.register()

    def composed(*overrides: str) -> Config:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(llmlat.config.config_dir()), version_base="1.3"):
            return llmlat.config.from_composed(hydra.compose("config", list(overrides)))

    return composed


@pytest.fixture(scope="session")
def token_rows() -> Callable[..., pd.DataFrame]:
    """Return a function that makes the rows of one request, as a collector would."""

    def rows(
        request_id: int,
        n_tokens: int = 4,
        prompt_tokens: int = 10,
        session_id: int = 0,
        latency_ms: float = 5.0,
        **columns: Any,
    ) -> pd.DataFrame:
        index = pd.RangeIndex(n_tokens)
        start_ns = 1_700_000_000_000_000_000 + max(request_id, -1) * 10**9
        made: dict[str, Any] = {
            "request_id": request_id,
            "sequence_index": 0,
            "prompt_id": f"prompt-{request_id}",
            "repetition": 0,
            "engine": "eager",
            "batch_size": 1,
            "num_beams": 1,
            "temperature": 0.0,
            "top_k": None,
            "top_p": None,
            "session_id": session_id,
            "session_request": max(request_id, 0),
            "is_warmup": request_id < 0,
            "token_index": index,
            "phase": [PREFILL, *[DECODE] * n_tokens][:n_tokens],
            "prompt_tokens": prompt_tokens,
            "context_length": prompt_tokens + index.to_numpy(),
            "padded_context_length": prompt_tokens + index.to_numpy(),
            "batch_context_tokens": prompt_tokens + index.to_numpy(),
            "first_visit": request_id <= 0,
            "token_id": 7,
            "token_latency_ms": latency_ms,
            "device_latency_ms": float("nan"),
            "completed_at_ns": start_ns + (index.to_numpy() + 1) * round(latency_ms * 1e6),
            **{column.name: None for column in (*SERVED, *TELEMETRY)},
            "telemetry_age_ms": None,
            "flags": "",
        }
        return pd.DataFrame({**made, **columns}, index=index)[[column.name for column in COLUMNS]]

    return rows


@pytest.fixture
def complete_dataset(tmp_path: Path, token_rows: Callable[..., pd.DataFrame]) -> Dataset:
    """Return a dataset of two requests of four tokens, measured by one session."""
    dataset = Dataset.create(tmp_path / "datasets", {"model": "tiny", "seed": 0}, n_requests=2)
    dataset.add_session({"notices": []})
    for request_id in range(2):
        dataset.append_request(request_id, token_rows(request_id))
    return dataset


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Run `python -m llmlat` in an empty folder: `cli.run()` to its end, `cli.start()` to meddle with.

    `cli.wait_for_requests()` waits until so many requests are on disk.
    """
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        # Beside what is on the path already: this checkout may be there only.
        paths = [place["PYTHONPATH"] for place in (environment, os.environ) if "PYTHONPATH" in place]
        if paths:
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        process = subprocess.Popen(
            [sys.executable, "-m", "llmlat", "tracking=none", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **environment)
        output, errors = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def wait_for_requests(process: subprocess.Popen[str], n: int) -> None:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("outputs/datasets/*/rows/request-*.parquet"))) < n:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    yield SimpleNamespace(start=start, run=run, wait_for_requests=wait_for_requests, folder=tmp_path)
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def real_sweep(tmp_path_factory: pytest.TempPathFactory, worker_id: str, tiny: tuple[str, ...]) -> Path:
    """Return a real 2 x 3 sweep of a tiny model, in W&B offline: run once, whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "real-sweep"
    with FileLock(f"{root}.lock"):
        if not root.exists():
            making = root.with_name("sweeping")
            making.mkdir()
            swept = ("-m", "prompt_set=short,chat", "regressor.alpha=0.1,1,10", "name=small")
            measured = ("prompt_set.limit=6", "prompt_set.max_new_tokens=6", "tracking.mode=offline")
            command = [sys.executable, "-m", "llmlat", *swept, *tiny, *measured]
            run = subprocess.run(command, cwd=making, capture_output=True, text=True, timeout=180)
            assert run.returncode == 0, run.stderr
            making.rename(root)
    (folder,) = root.glob("multirun_sweeps/small/*")
    return folder
