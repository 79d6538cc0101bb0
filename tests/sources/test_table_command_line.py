"""From the command line: somebody's own table, and several datasets together."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmlat import load_predictor
from llmlat.dataset import Dataset
from llmlat.report.__main__ import report_folder

IDENTITY = {
    "model": "tiny", "stand_in_for": None, "weights": "random", "versions": {}, "prompt_set": "made-up",
    "engine": {"name": "eager"}, "hardware": {"name": "cpu"}, "collect": {},
}  # fmt: skip


def run_folder(folder: Path) -> Path:
    (found,) = folder.glob("outputs/*/*/metrics.json")
    return found.parent


def metrics_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def own_table(cli: SimpleNamespace, theirs: pd.DataFrame) -> tuple[str, ...]:
    """Save a table beside where the command runs, and return what names it."""
    theirs.to_csv(cli.folder / "theirs.csv", index=False)
    columns = "{prompt_tokens: size, context_length: size + step, quantization: kind}"
    return (
        "table.path=theirs.csv",
        "table.latency=took",
        "table.group=[config]",
        f"table.columns={columns}",
        "features.columns=[prompt_tokens,context_length,kind]",
        "split=by_request",
    )


def test_a_table_is_fitted_and_reported_and_reported_again(
    cli: SimpleNamespace, own_table: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = cli.run(*own_table)
    assert ran.returncode == 0, ran.stderr
    folder = run_folder(cli.folder)
    metrics = metrics_of(folder)
    assert (metrics["source"], metrics["n_events"], metrics["n_requests"]) == ("table", 300, 30)
    assert metrics["mae_ms"] < 0.4
    assert metrics["coefficients"]["kind=nf4"]["per_unit_ms"] == pytest.approx(2.0, abs=0.2)
    page = (folder / "report.html").read_text(encoding="utf-8")
    for heading in ("Requests it has never seen", "How far off it may be", "What drives the latency"):
        assert heading in page
    for word in ("warm-up", "slow start", "prefill", "How it was measured", "after loading"):
        assert word not in re.sub(r"<style.*?</style>|<[^>]+>", "", page, flags=re.DOTALL)
        assert word not in ran.stdout
    asked = load_predictor(folder)
    assert asked.predict(prompt_tokens=100, context_length=105, kind="nf4") == pytest.approx(23.05, abs=0.5)
    (folder / "report.html").unlink()
    monkeypatch.chdir("/")
    report_folder(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("table.path=nowhere.csv", "table.path=nowhere.csv: there is no such file."),
        ("table.latency=tok", "table.latency=tok: no such column; there are config, size, step, kind, took."),
        ("features.columns=[took]", "features.columns: took is known only after the step"),
        ("table.unit=hours", "table.unit: Invalid value 'hours', expected one of [s, ms, us, ns]."),
        ("dataset=outputs/datasets/x", "dataset: it is named beside table.path; name one of the two."),
    ],
)
def test_a_mistake_is_one_line(
    cli: SimpleNamespace, own_table: tuple[str, ...], override: str, complaint: str
) -> None:
    ran = cli.run(*own_table, override)
    assert ran.returncode != 0
    assert complaint in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(cli.folder.glob("outputs/*/*/metrics.json"))


@pytest.fixture
def datasets(cli: SimpleNamespace, token_rows: Any) -> list[str]:
    """Return two datasets of eight requests, an int8 and a slower nf4, under their names."""
    generator, made = np.random.default_rng(0), []
    for quantization, extra in (("int8", 0.0), ("nf4", 3.0)):
        identity = {**IDENTITY, "quantization": quantization}
        dataset = Dataset.create(cli.folder / "datasets", identity, n_requests=8)
        dataset.add_session({"notices": [f"{quantization} was warm"]})
        for request in range(8):
            rows = token_rows(request, n_tokens=6, prompt_tokens=10 * (1 + request))
            latency = 10 + extra + 0.01 * rows["context_length"] + generator.normal(0, 0.05, 6)
            dataset.append_request(request, rows.assign(token_latency_ms=latency))
        made.append(str(dataset.folder))
    return made


def test_several_datasets_are_fitted_together(cli: SimpleNamespace, datasets: list[str]) -> None:
    ran = cli.run(
        f"dataset=[{','.join(datasets)}]",
        "features.columns=[prompt_tokens,context_length,quantization]",
        "split=leave_one_out",
        "split.column=quantization",
        "split.held_out=nf4",
    )
    assert ran.returncode == 0, ran.stderr
    folder = run_folder(cli.folder)
    metrics = metrics_of(folder)
    assert (metrics["n_events"], metrics["n_requests"]) == (96, 16)
    assert (metrics["n_train"], metrics["n_test"]) == (48, 48)
    assert metrics["quantization"] == "int8 and nf4"
    assert metrics["notices"] == ["int8 was warm", "nf4 was warm"]
    assert metrics["mae_ms"] == pytest.approx(3.0, abs=0.3), "what it has not seen, it cannot know"
    assert metrics["splits"]["by_request"]["mae_ms"] < 0.2
    assert set(metrics["splits"]["leave_one_out:quantization"]["by_value"]) == {"int8", "nf4"}
    assert {cell["quantization"] for cell in metrics["effects"]} == {"int8", "nf4"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    report_folder(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("column", "held_out", "complaint"),
    [
        ("quantization", "nf8", "split.held_out=nf8: no row has it; quantization is int8, nf4."),
        ("model", "tiny", "split.held_out=tiny: model is that in all 96 rows, so none are left to fit on"),
        ("modl", "tiny", "split.column=modl: the rows have no such column"),
    ],
)
def test_what_cannot_be_left_out_is_one_line(
    cli: SimpleNamespace, datasets: list[str], column: str, held_out: str, complaint: str
) -> None:
    ran = cli.run(
        f"dataset=[{','.join(datasets)}]",
        "split=leave_one_out",
        f"split.column={column}",
        f"split.held_out={held_out}",
    )
    assert ran.returncode != 0
    assert complaint in ran.stderr
    assert "Traceback" not in ran.stderr
