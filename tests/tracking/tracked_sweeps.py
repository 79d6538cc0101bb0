"""A small sweep on disk: job folders as they are left, the table of them, and what its W&B report says."""

import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from tracked_runs import ABOUT, METRICS, RUN_CONFIG, config, log_everything

from llmlat import tracking
from llmlat.config import TrackingMode
from llmlat.tracking.team_report import publish

GROUP = "thesis-2026-11-22 09-00"
OVERRIDES = ["+experiment=thesis_sweep", "prompt_set=short,chat", "regressor.alpha=0.01,1,100"]
REFERENCE = {"source": "the thesis", "n_events": 471, "mae_ms": 34.03, "rmse_ms": 159.11}
WHY = "ModelError: no such | model\nat all"


def make_sweep(folder: Path) -> pd.DataFrame:
    """Make a sweep of six jobs, of which the fifth failed, and return its jobs as `read_jobs` would."""
    folder.mkdir(parents=True)
    task = "".join(f"    - {override}\n" for override in OVERRIDES)
    (folder / "multirun.yaml").write_text(f"hydra:\n  overrides:\n    task:\n{task}", encoding="utf-8")
    settings = [(prompts, alpha) for prompts in ("short", "chat") for alpha in (0.01, 1.0, 100.0)]
    rows = [_job(number, *setting, is_done=number != 4) for number, setting in enumerate(settings)]
    for row in rows:
        job = folder / row["job"]
        job.mkdir()
        if row["status"] == "done":
            metrics = {**METRICS, "n_events": 40, "n_train": 32, "reference": REFERENCE, "intercept_ms": 1.0}
            (job / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return pd.DataFrame(rows)


def _job(number: int, prompts: str, alpha: float, is_done: bool) -> dict[str, Any]:
    error = 1.0 + abs(alpha - 1) / 100
    results = {"mae_ms": error, "rmse_ms": 2.0, "r2": 0.9, "validation_mae_ms": error + 0.1}
    return {
        "job": str(number),
        "status": "done" if is_done else "failed",
        "overrides": f"prompt_set={prompts} alpha={alpha:g}",
        "prompt_set": prompts,
        "regressor.alpha": alpha,
        **{name: value if is_done else None for name, value in results.items()},
        "scaled_ms.context_length": 3.0 if is_done else None,
        "stand_in": ABOUT["stand_in"],
        "weights": ABOUT["weights"],
        "dataset_key": prompts,
        "device": "cpu",
        "error": None if is_done else WHY,
    }


def track_jobs(folder: Path, jobs: pd.DataFrame, mode: TrackingMode = TrackingMode.auto) -> None:
    """Log the finished jobs of a sweep to W&B."""
    for row in jobs[jobs["status"] == "done"].to_dict("records"):
        run_config = {
            **RUN_CONFIG,
            "prompt_set": {"name": row["prompt_set"]},
            "regressor": {"alpha": row["regressor.alpha"]},
        }
        with tracking.start(config(mode=mode), run_config, folder / row["job"]) as tracker:
            log_everything(tracker, folder / row["job"])


def spec_of(sweep: Path) -> dict[str, Any]:
    """Return the report's spec that was kept in a sweep's folder."""
    return json.loads((sweep / "wandb_report.json").read_text(encoding="utf-8"))


def text_of(spec: dict[str, Any]) -> str:
    """Return the words of a spec."""
    return "\n".join(
        block["content"] for block in spec["spec"]["blocks"] if block["type"] == "markdown-block"
    )


def grids(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the grids of panels of a spec."""
    return [block["metadata"] for block in spec["spec"]["blocks"] if block["type"] == "panel-grid"]


def panels(spec: dict[str, Any], view: str) -> list[dict[str, Any]]:
    """Return what panels of one kind are set to."""
    found = [panel for grid in grids(spec) for panel in grid["panelBankSectionConfig"]["panels"]]
    return [panel["config"] for panel in found if panel["viewType"] == view]


def later(sweep: Path) -> str:
    """Return the sentence that names the command for later."""
    return f"To publish it later: python -m llmlat.tracking.team_report {shlex.quote(str(sweep))}"


def offline(sweep: Path, jobs: pd.DataFrame) -> dict[str, Any]:
    """Return the spec that is kept where nothing is sent."""
    publish(config(mode=TrackingMode.offline), sweep, jobs)
    return spec_of(sweep)
