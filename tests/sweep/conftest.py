"""Sweeps on disk as jobs leave them, without running one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweep_metrics import metrics_of

MakeJob = Callable[..., Path]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Return a function that leaves a job's folder, and returns the sweep's."""

    def make(
        number: int | str,
        overrides: list[str],
        metrics: Mapping[str, Any] | None = None,
        done: Mapping[str, Any] | None = None,
        failed: Mapping[str, Any] | None = None,
    ) -> Path:
        folder = tmp_path / "sweep" / str(number)
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        (folder / ".hydra" / "config.yaml").write_text("seed: 7\nsplit:\n  seed: ${seed}\n")
        for name, content in (("metrics", metrics), ("DONE", done), ("FAILED", failed)):
            if content is not None:
                (folder / f"{name}.json").write_text(json.dumps(content))
        return tmp_path / "sweep"

    return make


@pytest.fixture
def grid(make_job: MakeJob) -> Path:
    """Return a sweep of two prompt sets and three alphas; validation and test errors disagree on the best."""
    validation = {"short": (1.0, 0.9, 1.2), "chat": (3.0, 3.3, 2.9)}
    test = {"short": (0.7, 1.1, 0.8), "chat": (2.0, 2.5, 3.5)}
    number, folder = 0, Path()
    for prompt_set, errors in validation.items():
        for place, alpha in enumerate((0.1, 1, 10)):
            metrics = metrics_of(
                mae_ms=test[prompt_set][place],
                validation={"mae_ms": errors[place], "rmse_ms": 2 * errors[place]},
                dataset_key=f"key-of-{prompt_set}",
                prompt_set=prompt_set,
            )
            overrides = [f"prompt_set={prompt_set}", f"regressor.alpha={alpha}", "tracking=none"]
            folder = make_job(number, overrides, metrics, done={"config": {"seed": 7}, "seconds": 1.5})
            number += 1
    return folder
