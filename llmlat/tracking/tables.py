"""What a run shows, as plain values: pure functions of metrics and frames, which know no service."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlat.records import DECODE, PREFILL, TARGET

COEFFICIENT_COLUMNS = ["scaled_ms", "per_unit_ms", "relative_impact", "mean", "scale"]
ERROR_COLUMNS = ["n", "mae_ms", "mae_over_floor", "rmse_ms", "rmse_over_floor", "median_ae_ms", "r2", "mape"]


@dataclass(frozen=True)
class Table:
    """Column names, and rows of plain values in their order."""

    columns: list[str]
    rows: list[list[Any]]


def run_name(run_config: Mapping[str, Any]) -> str:
    """Return a name to tell runs apart by: experiment, model, quantization, engine and prompt set."""
    parts = [run_config.get("name")]
    for group in ("model", "quantization", "engine", "prompt_set"):
        parts.append((run_config.get(group) or {}).get("name"))
    return " ".join(str(part).rsplit("/", 1)[-1] for part in parts if part)


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
