"""The command line in processes of its own: what it loads, what it leaves, and how it refuses."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

import llmlat
from llmlat.dataset import Dataset

MEASURING = {"torch", "transformers", "bitsandbytes", "mistral_common"}
HEAVY = MEASURING | {"wandb", "sklearn", "matplotlib", "pandas"}
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
RUN_FOLDER = {
    ".hydra", "llmlat.log", "metrics.json", "predictor.json", "predictions.parquet", "dataset.json",
    "report.html", "report.md", "figures", "DONE.json",
}  # fmt: skip

MEASURED = ("prompt_set.limit=6", "prompt_set.max_new_tokens=6", "collect.repetitions=2", "reference=thesis")

Completed = subprocess.CompletedProcess[str]


@pytest.fixture
def dataset(tmp_path: Path, token_rows: Callable[..., pd.DataFrame]) -> Dataset:
    """Return a complete dataset of six requests of eight tokens, as a run could have left it."""
    made = Dataset.create(tmp_path / "datasets", IDENTITY, n_requests=6)
    made.add_session({"notices": []})
    generator = np.random.default_rng(0)
    for request in range(6):
        rows = token_rows(request, n_tokens=8, prompt_tokens=10 + 30 * request)
        made.append_request(request, rows.assign(token_latency_ms=5 + generator.uniform(0, 1, 8)))
    return made


def imported(run: Completed) -> set[str]:
    """Return the top-level packages that a run with PYTHONPROFILEIMPORTTIME=1 has imported."""
    modules = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+([\w.]+)$", run.stderr, re.MULTILINE)
    assert "json" in modules, run.stderr[-2000:]
    return {name.partition(".")[0] for name in modules}


def one_error_line(run: Completed, exit_code: int) -> str:
    """Return what follows `error: `, once it is the only such line and nothing else alarms."""
    assert run.returncode == exit_code, run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    lines = [line for line in run.stderr.splitlines() if "error" in line.lower()]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def only_run_folder(root: Path, pattern: str = "outputs/default/*") -> Path:
    (folder,) = root.glob(pattern)
    return folder


# What is loaded


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["+experiment=thesis", "--cfg", "job"]], ids=" ".join
)
def test_asking_loads_nothing_heavy(cli: SimpleNamespace, arguments: list[str]) -> None:
    run = cli.run(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert run.returncode == 0
    assert not imported(run) & HEAVY
    assert (
        "experiment=thesis" in run.stdout
        if "--help" in arguments
        else "_target_: sklearn.linear_model.Ridge" in run.stdout
    )
    assert list(cli.folder.iterdir()) == []


def test_help_names_every_group_and_option(cli: SimpleNamespace) -> None:
    shown = cli.run("--help").stdout
    conf = llmlat.config.config_dir()
    for group in (path for path in conf.iterdir() if path.is_dir() and path.name != "hydra"):
        options = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
        assert f"{group.name}: {options}" in shown


# How it refuses


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["model=mistral-mni"], "model=mistral-mni"),
        (["regressor.alhpa=2"], "regressor.alhpa"),
        (["seed=abc"], "seed"),
        (["model.stand_in.name=x"], "model.stand_in.name"),
        (["seed=0,abc", "-m"], "seed"),
        (["split=3"], "a group is given a number"),
        (["-m", "--cfg", "job"], "Only one of --run, --multirun"),
    ],
    ids=str,
)
def test_what_cannot_be_composed_ends_at_once(cli: SimpleNamespace, arguments: list[str], key: str) -> None:
    assert one_error_line(cli.run(*arguments), exit_code=2).startswith(key)
    assert not [path for path in cli.folder.rglob("*") if path.name in {".hydra", "llmlat.log", "outputs"}]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["model=hub"], "model.name"),
        (["model.name=${nothing}"], "model.name"),
        (["+prompt_set.max_tokens=8"], "prompt_set.max_tokens"),
        (["regressor.alpha=-1"], "regressor"),
        (["features.columns=[token_latency_ms]"], "features.columns"),
        (["split.test_size=20"], "split.test_size"),
        (["dataset=nowhere/at-all"], "dataset"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_anything_is_measured(
    cli: SimpleNamespace, arguments: list[str], key: str
) -> None:
    run = cli.run(*arguments, PYTHONPROFILEIMPORTTIME="1")
    loaded = imported(run)
    run.stderr = "\n".join(line for line in run.stderr.splitlines() if not line.startswith("import time:"))
    assert one_error_line(run, exit_code=1).startswith(key)
    assert "torch" not in loaded


def test_a_place_that_cannot_be_written_is_one_line(cli: SimpleNamespace) -> None:
    (cli.folder / "outputs").touch()  # a file, where a folder is needed: root can write to all else
    line = one_error_line(cli.run("dataset=anything"), exit_code=1)
    assert "hydra.run.dir" in line


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["model=hub", "model.name=no-such/model"], "model.name=no-such/model"),
        (["prompt_set.limit=1", "prompt_set.max_new_tokens=3"], "split=random"),
        (["split=leave_one_out"], "split.held_out"),
    ],
    ids=str,
)
def test_what_the_plan_shows_is_refused_before_the_model_is_loaded(
    cli: SimpleNamespace, arguments: list[str], key: str
) -> None:
    run = cli.run(*arguments, HF_HUB_OFFLINE="1")
    assert one_error_line(run, exit_code=1).startswith(key)
    assert "Measuring" not in run.stderr
    assert not list(cli.folder.glob("outputs/datasets/*"))


def spoil_latency(dataset: Dataset, value: float) -> None:
    """Write a latency as another program could: the file is whole, its number is not."""
    path = dataset.rows_dir / "request-000002.parquet"
    table = pq.read_table(path)
    latency = table["token_latency_ms"].to_numpy().copy()
    latency[3] = value
    index = table.schema.get_field_index("token_latency_ms")
    pq.write_table(table.set_column(index, table.schema.field(index), [latency]), path)


SPOIL: dict[str, Callable[[Dataset], Any]] = {
    "NaN": lambda dataset: spoil_latency(dataset, float("nan")),
    "negative": lambda dataset: spoil_latency(dataset, -1.0),
    "truncated": lambda dataset: os.truncate(dataset.rows_dir / "request-000004.parquet", 700),
    "another key": lambda dataset: dataset.folder.rename(dataset.folder.with_name("0123456789abcdef")),
    "another's rows": lambda dataset: _adopt(dataset),
    "no provenance": lambda dataset: (dataset.folder / "provenance.json").unlink(),
}


def _adopt(dataset: Dataset) -> None:
    other = Dataset.create(dataset.folder.parent.parent / "others", {**IDENTITY, "model": "other"}, 6)
    other.append_request(5, pd.read_parquet(dataset.rows_dir / "request-000005.parquet"))
    (other.rows_dir / "request-000005.parquet").replace(dataset.rows_dir / "request-000005.parquet")


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_spoilt_dataset_is_refused_and_left_alone(
    cli: SimpleNamespace, dataset: Dataset, spoil: str
) -> None:
    SPOIL[spoil](dataset)
    (folder,) = (cli.folder / "datasets").iterdir()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    line = one_error_line(cli.run(f"dataset={folder}"), exit_code=1)
    assert str(folder) in line
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_debug_switch_shows_tracebacks(cli: SimpleNamespace) -> None:
    composing = cli.run("model=mistral-mni", HYDRA_FULL_ERROR="1")
    assert composing.returncode != 0
    assert "Traceback" in composing.stderr
    running = cli.run("split.test_size=2", HYDRA_FULL_ERROR="1")
    assert running.returncode == 1
    assert "Traceback" in running.stderr
    assert "error: split.test_size=2" in running.stderr


# Sweeps


def test_a_failing_job_lets_the_others_run(cli: SimpleNamespace, dataset: Dataset) -> None:
    run = cli.run(f"dataset={cli.folder / 'nowhere'},{dataset.folder}", "regressor.alpha=1,10", "-m")
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    jobs = {path.name: path for path in cli.folder.glob("multirun_sweeps/default/*/[0-9]")}
    assert set(jobs) == {"0", "1", "2", "3"}
    for number in "01":
        assert not (jobs[number] / "metrics.json").exists()
        log = (jobs[number] / "llmlat.log").read_text(encoding="utf-8")
        assert re.search(r"ERROR llmlat: error: dataset=.*nowhere", log)
    alphas = [
        json.loads((jobs[n] / "metrics.json").read_text())["regressor"]["parameters"]["alpha"] for n in "23"
    ]
    assert alphas == [1, 10]


# What a run leaves


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, worker_id: str, tiny: tuple[str, ...]) -> Path:
    """Return the folder where a tiny model was measured: once, whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "measured"
    with FileLock(f"{root}.lock"):
        if not root.exists():
            making = root.with_name("measuring")
            making.mkdir()
            command = [sys.executable, "-m", "llmlat", "tracking=none", *tiny, *MEASURED]
            run = subprocess.run(command, cwd=making, capture_output=True, text=True, timeout=180)
            assert run.returncode == 0, run.stderr
            making.rename(root)
    return root


def metrics_of(run_folder: Path) -> dict[str, Any]:
    text = (run_folder / "metrics.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return found


def test_the_run_folder_holds_what_the_contract_says(measured: Path) -> None:
    folder = only_run_folder(measured)
    assert {path.name for path in folder.iterdir()} == RUN_FOLDER
    assert {path.name for path in (folder / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }
    assert all(path.suffix == ".svg" for path in (folder / "figures").iterdir())
    assert {path.name for path in measured.iterdir()} == {"outputs"}


def test_metrics_hold_what_the_contract_says(measured: Path) -> None:
    metrics = metrics_of(only_run_folder(measured))
    expected = {
        "n_events": 72, "n_train": 57, "n_test": 15, "n_requests": 12, "n_warmup": 16,
        "model": "mistral-mini", "stand_in": False, "weights": "random", "engine": "eager",
    }  # fmt: skip
    assert {name: metrics[name] for name in expected} == expected
    contract = (
        "mae_ms",
        "rmse_ms",
        "median_ae_ms",
        "r2",
        "mape",
        "baselines",
        "noise_floor",
        "coefficients",
        "intercept_ms",
        "split",
        "by_phase",
        "device",
    )
    assert all(metrics[name] is not None for name in contract)
    assert metrics["reference"]["mae_ms"] == 34.0332
    assert len(metrics["verdicts"]) == 4


def test_the_dataset_file_says_where_the_rows_are(measured: Path) -> None:
    folder = only_run_folder(measured)
    described = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert set(described) == {"key", "path", "n_rows", "provenance", "sha256"}
    rows = pd.read_parquet(folder.parents[1] / "datasets" / described["key"] / "rows")
    assert Path(described["path"]).parts[-4:] == ("outputs", "datasets", described["key"], "rows")
    assert len(rows) == described["n_rows"] == 72 + 16
    assert described["key"] == described["provenance"]["key"] == metrics_of(folder)["dataset_key"]


def test_the_predictor_predicts_the_predictions(measured: Path) -> None:
    folder = only_run_folder(measured)
    predictions = pd.read_parquet(folder / "predictions.parquet")
    predictor = llmlat.load_predictor(folder)
    latency = predictor.predict(
        prompt_tokens=predictions["prompt_tokens"], context_length=predictions["context_length"]
    )
    np.testing.assert_allclose(latency, predictions["predicted_ms"], rtol=1e-9)
    error = (predictions["predicted_ms"] - predictions["token_latency_ms"]).abs().mean()
    assert error == pytest.approx(metrics_of(folder)["mae_ms"])


def test_fitting_again_loads_no_torch_and_says_the_same(measured: Path, cli: SimpleNamespace) -> None:
    first = only_run_folder(measured)
    dataset = only_run_folder(measured, "outputs/datasets/*")
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    run = cli.run(f"dataset={dataset}", "reference=thesis", PYTHONPROFILEIMPORTTIME="1")
    assert run.returncode == 0, run.stderr[-2000:]
    assert not imported(run) & (MEASURING | {"wandb"})
    again = only_run_folder(cli.folder)
    assert metrics_of(again) == metrics_of(first)
    assert (again / "predictor.json").read_bytes() == (first / "predictor.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_another_regressor_is_kept_as_a_pipeline_beside_its_file(
    cli: SimpleNamespace, dataset: Dataset
) -> None:
    target = "regressor._target_=sklearn.tree.DecisionTreeRegressor"
    run = cli.run(
        f"dataset={dataset.folder}", "regressor=custom", target, "+regressor.max_depth=3", "reference=thesis"
    )
    assert run.returncode == 0, run.stderr
    folder = only_run_folder(cli.folder)
    assert {path.name for path in folder.iterdir()} == RUN_FOLDER
    assert metrics_of(folder)["coefficients"] is None
    predictions = pd.read_parquet(folder / "predictions.parquet")
    latency = llmlat.load_predictor(folder).predict(
        prompt_tokens=predictions["prompt_tokens"], context_length=predictions["context_length"]
    )
    np.testing.assert_allclose(latency, predictions["predicted_ms"], rtol=1e-9)


def test_the_same_command_measures_once(measured: Path, cli: SimpleNamespace, tiny: tuple[str, ...]) -> None:
    datasets = f"datasets_dir={measured / 'outputs' / 'datasets'}"
    run = cli.run(*tiny, *MEASURED, "regressor.alpha=10", datasets)
    assert run.returncode == 0, run.stderr
    assert "Already measured" in run.stderr
    assert len(list((measured / "outputs" / "datasets").iterdir())) == 1


@pytest.mark.slow
def test_the_thesis_end_to_end(cli: SimpleNamespace) -> None:
    """The main job for real: mistral-mini in int8 through bitsandbytes, about half a minute on two cores."""
    process = cli.start("+experiment=thesis")
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    folder = only_run_folder(cli.folder, "outputs/thesis/*")
    metrics = metrics_of(folder)
    expected = {
        "n_events": 471, "n_train": 376, "n_test": 95, "n_warmup": 0, "n_requests": 15, "stand_in": True,
        "stand_in_for": "mistralai/Mistral-7B-Instruct-v0.3", "model": "mistral-mini", "weights": "random",
        "quantization": "int8", "engine": "eager", "experiment": "thesis", "prompt_set": "thesis",
        "features": ["prompt_tokens", "context_length"],
    }  # fmt: skip
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["regressor"]["parameters"]["alpha"] == 1.0
    assert metrics["reference"]["rmse_ms"] == 159.1067
    assert set(metrics["coefficients"]) == {"prompt_tokens", "context_length"}
    assert len(metrics["verdicts"]) == 4
    assert metrics["by_phase"]["prefill"]["n"] + metrics["by_phase"]["decode"]["n"] == 95
    assert errors.count("STAND-IN") == 1
    assert any("STAND-IN" in notice for notice in metrics["notices"])
    assert len(errors.splitlines()) < 15, "bitsandbytes' warnings do not drown the output"
    assert "34.03" in output
    assert len(pd.read_parquet(folder / "predictions.parquet")) == 95
