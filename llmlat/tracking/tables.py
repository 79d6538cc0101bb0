"""What a run shows, as plain values: pure functions of metrics and frames, which know no service."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlat.records import DECODE, KNOWN, PREFILL, TARGET

COEFFICIENT_COLUMNS = ["scaled_ms", "per_unit_ms", "relative_impact", "mean", "scale"]
MAX_NAME = 128
MAX_COLUMNS = 100  # W&B looks at each cell: of thousands of columns, for minutes
ERROR_COLUMNS = ["n", "mae_ms", "mae_over_floor", "rmse_ms", "rmse_over_floor", "median_ae_ms", "r2", "mape"]


@dataclass(frozen=True)
class Table:
    """Column names, and rows of plain values in their order."""

    columns: list[str]
    rows: list[list[Any]]


MEASURING = ("model", "quantization", "engine", "decoding", "prompt_set", "collect", "device")
"""What of a configuration decides a measurement, and nothing of rows that have been measured before."""

NAMED = ("model", "quantization", "engine", "prompt_set")


def as_asked(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without what nothing reads: where rows are given, it asks for no measurement."""
    is_given = run_config.get("dataset") or (run_config.get("table") or {}).get("path")
    return {key: value for key, value in run_config.items() if not (is_given and key in MEASURING)}


def as_measured(run_config: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's configuration is otherwise than asked: what has been measured in truth.

    Parameters
    ----------
    run_config : mapping
        As the run has it.
    about : mapping
        What has been measured, in the words of metrics.json.
    """
    found = {}
    for group in NAMED:
        asked = dict(run_config.get(group) or {})
        if group in about and asked.get("name") != about[group]:
            found[group] = {**asked, "name": about[group]}
    return found


def run_name(experiment: Any, named: Mapping[str, Any]) -> str:
    """Return a name to tell runs apart by: experiment, model, quantization, engine and prompt set.

    Parameters
    ----------
    experiment : str
    named : mapping
        What has been measured, in the words of metrics.json; nothing where that is not known yet.
    """
    parts = dict.fromkeys(str(named[group]).rsplit("/", 1)[-1] for group in NAMED if named.get(group))
    told = [part for part in parts if part not in {"not told", "None"}]
    return " ".join([str(experiment), *told])[:MAX_NAME]


def scalars(metrics: Mapping[str, Any]) -> dict[str, float | str]:
    """Flatten nested metrics to keys such as `by_phase/decode/mae_ms`.

    Lists are left out, and so is what JSON has no number for.
    """
    return dict(_leaves(metrics, ""))


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float | str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}/")
            continue
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value)):
            yield f"{prefix}{key}", value


def request_scalars(rows: pd.DataFrame) -> dict[str, float]:
    """Return one request's numbers, as `request/...`.

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "request_id": 3, "prompt_tokens": 8, "phase": ["prefill", "decode", "decode"],
    ...     "token_latency_ms": [30.0, 10.0, 12.0],
    ... })
    >>> request_scalars(rows)["request/median_itl_ms"]
    11.0
    """
    latency = {phase: rows.loc[rows["phase"] == phase, TARGET] for phase in (PREFILL, DECODE)}
    values: dict[str, float] = {
        "request/index": int(rows["request_id"].iloc[0]),
        "request/prompt_tokens": int(rows["prompt_tokens"].max()),
        "request/output_tokens": len(rows),
    }
    if len(latency[PREFILL]):
        values["request/ttft_ms"] = float(latency[PREFILL].iloc[0])
    if len(latency[DECODE]):
        values["request/median_itl_ms"] = float(latency[DECODE].median())
        values["request/max_itl_ms"] = float(latency[DECODE].max())
    return values


def coefficient_table(metrics: Mapping[str, Any]) -> Table | None:
    """Return one row a feature, or None where the regressor is not linear."""
    coefficients = metrics.get("coefficients")
    if not coefficients:
        return None
    rows = [[name, *(block.get(c) for c in COEFFICIENT_COLUMNS)] for name, block in coefficients.items()]
    return Table(["feature", *COEFFICIENT_COLUMNS], rows)


def error_table(metrics: Mapping[str, Any]) -> Table:
    """Return the fit's errors above those of each baseline, on the same test rows."""
    fit = {**metrics, "n": metrics.get("n_test")}
    blocks = {"fit": fit, **(metrics.get("baselines") or {})}
    rows = [[name, *(block.get(c) for c in ERROR_COLUMNS)] for name, block in blocks.items() if block]
    return Table(["predictor", *ERROR_COLUMNS], rows)


def frame_table(frame: pd.DataFrame) -> Table:
    """Return a frame's values, with None where one is missing: JSON has no NaN."""
    plain = frame.astype(object).where(frame.notna(), None)
    return Table([str(c) for c in frame.columns], plain.to_numpy().tolist())


def cap_columns(frame: pd.DataFrame, limit: int = MAX_COLUMNS) -> pd.DataFrame:
    """Keep no more columns than `limit`: those that every table of rows has, then the first of the others."""
    if frame.shape[1] <= limit:
        return frame
    first = [name for name in frame if name in KNOWN or name == "predicted_ms"]
    others = [name for name in frame if name not in set(first)]
    kept = {*first[:limit], *others[: max(limit - len(first), 0)]}
    return frame[[name for name in frame if name in kept]]


def cap_rows(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Keep whole requests, evenly spaced over the run, so that no more than `limit` rows are left.

    A request's curve stays whole, and drift over the run stays visible. Where not even one request fits,
    rows are kept instead, evenly spaced.
    """
    if len(frame) <= limit:
        return frame
    if "request_id" in frame:
        sizes = frame.groupby("request_id", sort=False).size()
        for stride in range(math.ceil(len(frame) / max(limit, 1)), len(sizes) + 1):
            if sizes.iloc[::stride].sum() <= limit:
                return frame[frame["request_id"].isin(sizes.index[::stride])]
    return frame.iloc[np.linspace(0, len(frame) - 1, limit).astype(int)]
