"""docs/metrics.md and docs/dataset.md name what there is: no more, no less."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmlat.config import PACKAGE_DIR, FeaturesConfig, SplitConfig, SplitName
from llmlat.dataset import Dataset
from llmlat.fit.arena import Contestant, compete
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import analyse
from llmlat.records import COLUMNS
from llmlat.sources.datasets import rows_of
from llmlat.sweep import read_jobs

DOCS = PACKAGE_DIR.parent / "docs"
METRICS_MD = DOCS / "metrics.md"


def first_cells(page: Path) -> list[str]:
    return re.findall(r"^\| (`.+?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def metrics(tmp_path: Path, token_rows: Callable[..., pd.DataFrame]) -> dict[str, Any]:
    """Return the metrics of a small made-up dataset, as `pipeline.run` writes them."""
    identity = {
        "model": "tiny", "stand_in_for": None, "weights": "random", "quantization": "none", "versions": {},
        "engine": {"name": "eager"}, "prompt_set": "made-up", "hardware": {"name": "cpu"}, "collect": {},
    }  # fmt: skip
    dataset = Dataset.create(tmp_path, identity, n_requests=12)
    dataset.add_session({"notices": []})
    generator = np.random.default_rng(0)
    for request in range(12):
        rows = token_rows(request, n_tokens=6, prompt_tokens=10 * (1 + request % 3))
        dataset.append_request(request, rows.assign(token_latency_ms=generator.uniform(4, 5, 6)))
    pipeline = build_pipeline(
        {"_target_": "sklearn.linear_model.Ridge"}, FeaturesConfig(["prompt_tokens", "context_length"])
    )
    split = SplitConfig(SplitName.random, 0.2, 0)
    rows = rows_of([dataset], "made-up")
    found = analyse(rows.steps, pipeline, split, rows.about, "thesis").metrics
    return {**found, "arena": compete(rows.steps, [Contestant("ridge", pipeline)], split)}


def test_every_metric_is_documented_and_no_other(metrics: dict[str, Any]) -> None:
    named = [name for cell in first_cells(METRICS_MD) for name in re.findall(r"`(\w+)`", cell)]
    assert len(named) == len(set(named)), "a key is explained once"
    assert set(named) == set(metrics)


@pytest.mark.parametrize(
    "block",
    [
        "noise_floor",
        "latency",
        "worst_rows",
        "without_warmup_and_prefill",
        "splits",
        "baselines",
        "first_visits",
        "flags",
        "measurement",
        "split",
        "leakage_gap",
        "intervals",
        "calibration",
        "coverage",
    ],
)
def test_the_keys_below_a_metric_are_documented(metrics: dict[str, Any], block: str) -> None:
    line = next(
        line
        for line in METRICS_MD.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{block}`")
    )
    missing = [name for name in metrics[block] if not re.search(rf'[`"{{, ]{name}[`",]', line)]
    assert missing == []


@pytest.mark.parametrize("block", ["effects", "along_context", "arena", "cells"])
def test_the_keys_of_an_entry_are_documented(metrics: dict[str, Any], block: str) -> None:
    line = next(
        line
        for line in METRICS_MD.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{block}`")
    )
    assert metrics[block]
    assert [name for name in metrics[block][0] if f"`{name}`" not in line] == []


def test_the_error_block_is_what_it_says(metrics: dict[str, Any]) -> None:
    said = re.search(r"`\{(.+?)\}`", METRICS_MD.read_text(encoding="utf-8"))
    assert said
    assert re.findall(r'"(\w+)"', said[1]) == list(metrics["by_phase"]["decode"])


def test_the_columns_of_a_token_row_are_documented_word_for_word() -> None:
    section = (DOCS / "dataset.md").read_text(encoding="utf-8").partition("## A token row")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.+) \|$", section, re.MULTILINE)
    assert rows == [(column.name, column.unit, column.meaning) for column in COLUMNS]


def test_the_columns_of_a_sweep_are_documented(tmp_path: Path) -> None:
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "0" / ".hydra" / "overrides.yaml").write_text("[seed=1]")
    section = (DOCS / "sweeps.md").read_text(encoding="utf-8").partition("## A row a job")[2]
    named = re.findall(r"`([\w.<>]+)`", " ".join(re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)))
    patterns = {"scaled_ms.<feature>", "per_unit_ms.<feature>"}
    assert set(named) - patterns == set(read_jobs(tmp_path).columns)
    assert patterns <= set(named)
    assert len(named) == len(set(named))
