"""Datasets that need no model, and sweeps over them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import llmlat
from llmlat.dataset import Dataset

IDENTITY = {
    "model": "tiny",
    "stand_in_for": None,
    "weights": "random",
    "quantization": "none",
    "engine": {"name": "eager"},
    "prompt_set": "made-up",
    "hardware": {"name": "a made-up machine"},
    "versions": {"llmlat": llmlat.__version__},
}


@pytest.fixture
def dataset(tmp_path: Path, token_rows: Callable[..., pd.DataFrame]) -> Dataset:
    """Return a complete dataset of six requests of eight tokens."""
    made = Dataset.create(tmp_path / "datasets", IDENTITY, n_requests=6)
    made.add_session({"notices": []})
    generator = np.random.default_rng(0)
    for request in range(6):
        rows = token_rows(request, n_tokens=8, prompt_tokens=10 + 30 * request)
        made.append_request(request, rows.assign(token_latency_ms=5 + generator.uniform(0, 1, 8)))
    return made


@pytest.fixture
def sweep(cli: SimpleNamespace, dataset: Dataset) -> Callable[..., list[str]]:
    """Return a function that makes the arguments of a sweep over alphas with a regressor of `deadly`."""

    def arguments(name: str, folder: str, alphas: str, *more: str) -> list[str]:
        regressor = ["regressor=custom", f"regressor._target_=deadly.{name}", f"+regressor.alpha={alphas}"]
        return [f"dataset={dataset.folder}", *regressor, f"hydra.sweep.dir={folder}", *more, "-m"]

    return arguments
