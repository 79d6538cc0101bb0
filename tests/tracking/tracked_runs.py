"""A small run to track, and what wandb's own reader finds of it afterwards."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmlat.config import TrackingConfig, TrackingMode, TrackingName
from llmlat.records import COLUMNS

REPOSITORY = Path(__file__).resolve().parents[2]
WANDB = Path(sysconfig.get_path("scripts")) / "wandb"
TOKENS = 10

RUN_CONFIG = {
    "name": "thesis",
    "model": {"name": "mistralai/Mistral-7B", "weights": "auto", "stand_in": None},
    "quantization": {"name": "int8"},
    "engine": {"name": "eager", "_target_": "a.b"},
    "prompt_set": {"name": "short", "max_new_tokens": None},
    "regressor": {"alpha": 1.0},
}

ABOUT = {
    "experiment": "thesis",
    "model": "mistral-mini",
    "weights": "random",
    "stand_in": True,
    "dataset_key": "0123456789abcdef",
    "device": "cpu",
    "notices": ["mistral-mini stands in"],
}

ERRORS = {
    "mae_ms": 1.5, "rmse_ms": 2.0, "median_ae_ms": 1.0, "r2": 0.9, "mape": 0.05,
    "mae_over_floor": 3.0, "rmse_over_floor": 2.5,
}  # fmt: skip
COEFFICIENT = {"scaled_ms": 3.0, "per_unit_ms": 0.5, "relative_impact": 1.0, "mean": 9.0, "scale": 6.0}
METRICS = {
    **ABOUT,
    **ERRORS,
    "n_test": 4,
    "baselines": {"mean": {"n": 4, **ERRORS, "mae_ms": 9.0}},
    "by_phase": {"decode": {"n": 3, **ERRORS}, "prefill": None},
    "coefficients": {"context_length": COEFFICIENT},
    "noise_floor": None,
}


def config(**changes: Any) -> TrackingConfig:
    """Return tracking=wandb, with a group and tags."""
    given = {"name": TrackingName.wandb, "mode": TrackingMode.auto, "group": "thesis", "tags": ["mine"]}
    return TrackingConfig(**{**given, **changes})


def make_rows(requests: int = 4) -> pd.DataFrame:
    """Return whole requests of ten tokens, with every column of a token row."""
    n = requests * TOKENS
    index = np.arange(n) % TOKENS
    values = {
        "request_id": np.arange(n) // TOKENS,
        "prompt_id": "p",
        "is_warmup": False,
        "token_index": index,
        "phase": np.where(index == 0, "prefill", "decode"),
        "prompt_tokens": 8,
        "context_length": 8 + index,
        "token_latency_ms": np.where(index == 0, 30.0, 10.0 + index),
        "device_latency_ms": np.nan,
        "completed_at_ns": 1_795_332_393_296_940_600 + np.arange(n),
    }
    return pd.DataFrame({column.name: values.get(column.name, 0) for column in COLUMNS}, index=range(n))


def fill(folder: Path) -> Path:
    """Write the files of a finished run into its folder, and return its dataset's folder."""
    dataset = folder.parent / "datasets" / ABOUT["dataset_key"]
    files = {
        folder / "predictor.json": "{}",
        folder / "report.html": "<html><body>1 µs</body></html>",
        folder / "report.md": "# report",
        folder / "figures" / "coefficients.svg": "<svg></svg>",
        dataset / "provenance.json": "{}",
        dataset / "rows" / "request-000000.parquet": "rows",
        dataset / "rows" / "_partial-000001.parquet": "half",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return dataset


SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>\n'


def log_everything(tracker: Any, folder: Path, rows: pd.DataFrame | None = None) -> None:
    """Log what a whole run logs."""
    rows = make_rows() if rows is None else rows
    dataset = fill(folder)
    for _, request in rows.groupby("request_id"):
        tracker.log_request(None, request)
    tracker.log_provenance(ABOUT)
    tracker.log_result(METRICS, rows, rows.assign(predicted_ms=1.0).head(4), {"coefficients": SVG}, dataset)


def said(caplog: Any) -> list[str]:
    """Return what llmlat itself has said; pytest also hears wandb, which a terminal does not."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("llmlat")]


class ReadBack:
    """What a run left on disk, read by `wandb leet inspect`."""

    def __init__(self, folder: Path) -> None:
        (self.log,) = folder.glob("wandb/*run-*/run-*.wandb")
        self.records = [json.loads(line) for line in self._inspect().splitlines()]
        self.run = self._last("run")
        self.exit_code = self._last("exit").get("exit_code")
        self.history = [record["history"]["item"] for record in self.records if record["type"] == "history"]
        artifacts = [record["artifact"] for record in self.records if record["type"] == "artifact"]
        self.artifacts = {
            artifact["type"]: artifact for artifact in artifacts if artifact["type"] != "run_table"
        }
        self.summary = self._updates("summary")
        self.config = {**self.run["config"]["update"], **self._updates("config")}

    def _inspect(self) -> str:
        command = [WANDB, "leet", "inspect", "--json", self.log]
        environment = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    def _last(self, kind: str) -> dict[str, Any]:
        found = [record[kind] for record in self.records if record["type"] == kind]
        return found[-1] if found else {}

    def _updates(self, kind: str) -> dict[str, Any]:
        updates = [record[kind]["update"] for record in self.records if record["type"] == kind]
        return {key: value for update in updates for key, value in update.items()}

    def table(self, name: str) -> tuple[list[str], list[list[Any]]]:
        """Return the columns and rows of a logged table."""
        content = json.loads(self.media(f"tables/{name}").read_text())
        return content["columns"], content["data"]

    def media(self, key: str) -> Path:
        """Return the file behind a logged key."""
        return self.log.parent / "files" / self.summary[f"{key}.path"]

    def files(self, kind: str) -> dict[str, str]:
        """Return where an artifact's files are on this machine, by their names in it."""
        return {f["path"]: f["local_path"] for f in self.artifacts[kind]["manifest"]["contents"]}


def script(body: str, **options: Any) -> subprocess.Popen[str]:
    """Start a Python process of its own on a few lines, with this house on its path."""
    start = f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(Path(__file__).parent)!r}]\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", start + body], **{**pipes, **options})
