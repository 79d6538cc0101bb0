"""A dataset of made-up rows with an identity and a session as a measurement leaves them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmlat.dataset import Dataset
from llmlat.publish import publish

IDENTITY: dict[str, Any] = {
    "rows": 2,
    "model": "tiny",
    "stand_in_for": None,
    "weights": "random",
    "fingerprint": {},
    "architecture": {"model_type": "mistral", "num_hidden_layers": 2, "hidden_size": 64},
    "quantization": "none",
    "engine": {"name": "eager", "_target_": "llmlat.measure.engines.eager.EagerEngine"},
    "interleaved_engines": {},
    "decoding": {"batch_size": 1, "temperature": 0.0, "top_k": None},
    "prompt_set": "made-up",
    "requests_sha256": "0" * 64,
    "collect": {"warmup": 16, "repetitions": 1, "until_ci": None, "interleave": {"engine": []}},
    "seed": 42,
    "hardware": {"device": "cpu", "name": "A <CPU> (2 threads)", "driver": None, "cores": 2},
    "versions": {"python": "3.11", "llmlat": "0.1.0", "torch": "2.13.0"},
}
SESSION: dict[str, Any] = {
    "started_at": "2026-01-02T03:04:05+00:00",
    "git": {"commit": "c0ffee", "changed": False},
    "versions": {"numpy": "2.0"},
    "os": "Linux-6.1-x86_64",
    "memory_bytes": 16_000_000_000,
    "hostname": "secret-box",
    "foreign_processes": {"count": 2, "names": ["payroll", "python"]},
    "notices": ["RANDOM WEIGHTS: /home/alice/My Models/tiny comes without weights in its folder."],
    "config": {
        "model": {"name": "/home/alice/My Models/tiny"},
        "prompt_set": {"name": "made-up", "path": "/home/alice/prompts/chat.jsonl"},
        "tracking": {"name": "wandb", "entity": "alice", "project": "secret-project"},
        "datasets_dir": "/scratch/alice/datasets",
        "dataset": None,
        "regressor": {"_target_": "sklearn.linear_model.Ridge", "alpha": 1.0},
    },
    "warmup": {"n_tokens": 3, "seconds": 0.5, "settled": True},
    "telemetry": {
        "sources": ["cpu"],
        "interval_ms": 100.0,
        "n_samples": 12,
        "sample_us": {"median": 20.0, "max": 90.0},
        "share_of_time": 0.001,
    },
}

Measured = Callable[..., Dataset]


@pytest.fixture(scope="session")
def measure(token_rows: Callable[..., pd.DataFrame]) -> Measured:
    """Return a function that makes a dataset of three requests; one that is not whole lacks the last."""

    def make(root: Path, is_whole: bool, session: dict[str, Any] | None, identity: dict[str, Any]) -> Dataset:
        dataset = Dataset.create(root, IDENTITY | identity, n_requests=3)
        dataset.add_session(SESSION if session is None else session)
        dataset.append_warmup(0, token_rows(-1, 3))
        generator = np.random.default_rng(0)
        for request in range(3 if is_whole else 2):
            rows = token_rows(request, n_tokens=6, prompt_tokens=10 * (1 + request))
            dataset.append_request(request, rows.assign(token_latency_ms=generator.uniform(4, 5, 6)))
        dataset.append_telemetry(0, pd.DataFrame({"at_ns": [1, 2], "cpu_utilization": [0.5, 0.25]}))
        return dataset

    return make


@pytest.fixture
def measured(tmp_path: Path, measure: Measured) -> Measured:
    """Return a function that makes such a dataset, with another identity or session where they are given."""

    def make(is_whole: bool = True, session: dict[str, Any] | None = None, **identity: Any) -> Dataset:
        return measure(tmp_path / "datasets", is_whole, session, identity)

    return make


@pytest.fixture
def dataset(measured: Measured) -> Dataset:
    return measured()


@pytest.fixture(scope="session")
def once_published(measure: Measured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a publication that nobody may touch."""
    root = tmp_path_factory.mktemp("publication")
    return publish(measure(root / "datasets", True, None, {}).folder, root / "published")[0]


@pytest.fixture
def published(once_published: Path, tmp_path: Path) -> Path:
    """Return a publication of `dataset`."""
    return Path(shutil.copytree(once_published, tmp_path / "published" / once_published.name))
