"""A sweep as a table, a row a job."""

from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from llmlat.errors import DatasetError, one_line
from llmlat.report.wording import is_number
from llmlat.sweep.jobs import DONE, FAILED, Job
from llmlat.sweep.overrides import Value, in_short, swept_keys
from llmlat.sweep.planned import all_jobs

ERRORS = ("mae_ms", "rmse_ms", "median_ae_ms", "r2", "mape")
COEFFICIENTS = ("scaled_ms", "per_unit_ms")
NUMBERS = (
    *ERRORS,
    "validation_mae_ms",
    "validation_rmse_ms",
    "by_request_mae_ms",
    "noise_floor_mae_ms",
    "mean_guess_mae_ms",
    "intercept_ms",
    "seconds",
    "n_train",
    "n_test",
)
WORDS = (
    "dataset_key",
    "experiment",
    "model",
    "weights",
    "stand_in_for",
    "quantization",
    "engine",
    "prompt_set",
    "regressor",
    "split",
    "device",
    "validation_reason",
    "error_class",
    "error",
    "traceback_tail",
)


def read_jobs(folder: Path) -> pd.DataFrame:
    """Read the jobs of a sweep, whatever became of them.

    Parameters
    ----------
    folder : Path
        A sweep's folder, or any folder with job folders below it.

    Returns
    -------
    DataFrame
        A row a job: `job` (its folder below `folder`), `status` (`done`, `failed`, `killed` or `not begun`),
        `overrides` (those that differ among jobs, in short), then a column for each swept key under its full
        name, then from `mae_ms` on its results: errors on the test rows, `validation_mae_ms` and
        `validation_rmse_ms` on folds of the training rows, `scaled_ms.<feature>` and `per_unit_ms.<feature>`
        for each coefficient, what was measured, `seed`, `seconds`, and why it failed. Where a swept key has
        the name of a result (`prompt_set`, `seed`), there is one column, the swept one.

    Raises
    ------
    DatasetError
        Where the folder is missing, or no job is below it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; name one under multirun_sweeps/ or outputs/.")
    jobs = all_jobs(folder)
    if not jobs:
        raise DatasetError(f"{folder}: no job is below it (a job's folder holds .hydra/overrides.yaml).")
    keys = swept_keys([job.overrides for job in jobs])
    rows = [_row_whatever(job, keys) for job in jobs]
    found = dict.fromkeys(name for row in rows for name in row)
    coefficients = [name for kind in COEFFICIENTS for name in found if name.startswith(f"{kind}.")]
    numbers = [*NUMBERS, *coefficients]
    columns = dict.fromkeys(["job", "status", "overrides", *keys, *numbers, "stand_in", "seed", *WORDS])
    frame = pd.DataFrame(rows, columns=list(columns))
    typed: dict[str, Any] = {name: "float64" for name in numbers if name not in keys}
    typed |= {"stand_in": "boolean", **({} if "seed" in keys else {"seed": "Int64"})}
    for key in keys:
        frame[key] = _uniform([row[key] for row in rows])
    words = {name: "str" for name in ("job", "status", "overrides", *WORDS) if name not in keys}
    return frame.astype(typed | words)


def swept_in(jobs: pd.DataFrame) -> list[str]:
    """Return the swept keys of a table from `read_jobs`: they stand between `overrides` and `mae_ms`."""
    names = list(jobs.columns)
    return names[names.index("overrides") + 1 : names.index("mae_ms")]


def _row_whatever(job: Job, keys: list[str]) -> dict[str, Any]:
    """Return a job's row; where what it left cannot be read, one that says so: it costs only itself."""
    try:
        return _row(job, keys)
    except (AttributeError, TypeError, ValueError) as error:
        said = f"its results are damaged ({one_line(error)}); run it again"
        return _row(Job(job.name, FAILED, job.overrides, error_class="DatasetError", error=said), keys)


def _number(value: Any, name: str) -> float | None:
    if value is None or (is_number(value) and isfinite(value)):
        return None if value is None else float(value)
    raise ValueError(f"{name} is no number")


def _words(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else _printable(value)
    raise ValueError(f"{name} is no text")


def _printable(text: str) -> str:
    """Return text without what would steer a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)


def _row(job: Job, keys: list[str]) -> dict[str, Any]:
    metrics = job.metrics
    swept = {key: job.overrides.get(key) for key in keys}
    coefficients = {
        f"{kind}.{name}": values.get(kind)
        for name, values in (metrics.get("coefficients") or {}).items()
        for kind in COEFFICIENTS
    }
    found = {
        **{name: metrics.get(name) for name in (*NUMBERS, *WORDS, "stand_in")},
        **{f"validation_{name}": _below(metrics, "validation", name) for name in ("mae_ms", "rmse_ms")},
        "by_request_mae_ms": _below(metrics.get("splits"), "by_request", "mae_ms"),
        "noise_floor_mae_ms": _below(metrics, "noise_floor", "mae_ms"),
        "mean_guess_mae_ms": _below(metrics, "baselines", "mean", "mae_ms"),
        "regressor": _below(metrics, "regressor", "name"),
        "split": _below(metrics, "split", "name"),
        "seed": job.seed,
        "seconds": job.seconds,
        "error_class": job.error_class,
        "error": job.error,
        "traceback_tail": job.traceback_tail,
    }
    if job.status == DONE and found["mae_ms"] is None:
        raise ValueError("mae_ms is missing")
    for name, value in {**found, **coefficients}.items():
        if name in NUMBERS or name in coefficients:
            _number(value, name)
        elif name in WORDS:
            found[name] = _words(value, name)
    if not isinstance(found["stand_in"], bool | None):
        raise ValueError("stand_in is neither true nor false")
    if isinstance(job.seed, bool) or not isinstance(job.seed, int | None):
        raise ValueError("seed is no whole number")
    return (
        found
        | coefficients
        | swept
        | {
            "job": job.name,
            "status": job.status,
            "overrides": in_short(swept),
        }
    )


def _below(block: Any, *path: str) -> Any:
    for name in path:
        block = (block or {}).get(name)
    return block


def _uniform(values: list[Value]) -> pd.Series:
    """Return a swept key's values as one type: numbers where all are, otherwise their text."""
    known = [value for value in values if value is not None]
    if all(is_number(value) for value in known):
        whole = len(known) == len(values) and all(isinstance(value, int) for value in known)
        return pd.Series(values, dtype="int64" if whole else "float64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="str")
