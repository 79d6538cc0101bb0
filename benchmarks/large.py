"""What fitting on large data costs: seconds, memory, and the distance to scikit-learn's coefficients.

    python benchmarks/large.py [n_rows]

Writes token rows to parquet files in a temporary folder (50 million take 1 GB), then fits Ridge and physics
on them, each time in a fresh process with its peak of resident memory: the fit alone, and the fit with the
errors on held-out requests. Coefficients stand beside those that are fitted in memory on the same rows: all
of them for Ridge, where there is memory for that, and else 2 million of them, as always for physics.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.config import SplitConfig, SplitName
from llmlat.fit.large import Settings, Source, fit_large
from llmlat.fit.large.fit import fit_part
from llmlat.fit.large.parts import divide
from llmlat.fit.regressors import PhysicsRegressor
from llmlat.records import TARGET
from llmlat.sources.parquet.groups import groups_of
from llmlat.sources.parquet.source import open_rows

TOKENS_A_REQUEST, ROWS_A_GROUP, GROUPS_A_FILE = 500, 250_000, 4
FEW_FILES = 2
BYTES_A_ROW_ON_DISK, BYTES_A_ROW_IN_MEMORY = 30, 250
SETTINGS = Settings(SplitConfig(SplitName.by_request, 0.2, 42))

FEATURES = {
    "ridge": {
        name: name
        for name in (
            "prompt_tokens",
            "context_length",
            "batch_size",
            "gpu_temperature_c",
            "sm_clock_mhz",
            "completed_at_ns",
        )
    },
    "physics": {
        "batch_size": "batch_size",
        "context_length": "context_length",
        "cache_tokens": "batch_size * context_length",
        "prefill_tokens": "prompt_tokens * (token_index = 0)::INTEGER",
    },
}
PIPELINES = {
    "ridge": Pipeline([("scaled", StandardScaler()), ("regressor", Ridge(alpha=1.0))]),
    "physics": Pipeline([("scaled", "passthrough"), ("regressor", PhysicsRegressor())]),
}


def main() -> None:
    """Write the rows, and run every measurement in a process of its own."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000_000
    with tempfile.TemporaryDirectory(prefix="llmlat-large-") as folder:
        if shutil.disk_usage(folder).free < 2 * n_rows * BYTES_A_ROW_ON_DISK:
            sys.exit(f"{folder}: too little room for {n_rows:,} rows; point TMPDIR to a larger disk.")
        began = time.perf_counter()
        n_files, n_bytes = write_rows(Path(folder), n_rows)
        taken_s = time.perf_counter() - began
        print(f"{n_rows:,} rows in {n_files} files, {n_bytes / 1e9:.2f} GB, written in {taken_s:.0f} s")
        for kind in FEATURES:
            for what in ("fit", "fit_and_errors"):
                print(f"{kind:<8} {what.replace('_', ' '):<15} {_told(_in_a_process(what, kind, folder))}")
            found = _in_a_process("compare", kind, folder)
            print(
                f"{kind:<8} coefficients on {found['n']:,} rows: relative difference to a fit in memory "
                f"at most {found['difference']:.1e}"
            )


def write_rows(folder: Path, n_rows: int) -> tuple[int, int]:
    """Write token rows a row group at a time; return the number of files and of bytes."""
    generator = np.random.default_rng(0)
    n_groups = -(-n_rows // ROWS_A_GROUP)
    for first in range(0, n_groups, GROUPS_A_FILE):
        path, writer = folder / f"rows-{first // GROUPS_A_FILE:04d}.parquet", None
        for group in range(first, min(first + GROUPS_A_FILE, n_groups)):
            rows = min(ROWS_A_GROUP, n_rows - group * ROWS_A_GROUP)
            table = make_rows(generator, group * ROWS_A_GROUP, rows)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
        assert writer is not None
        writer.close()
    written = list(folder.glob("*.parquet"))
    return len(written), sum(path.stat().st_size for path in written)


def make_rows(generator: np.random.Generator, first: int, n_rows: int) -> pa.Table:
    """Make token rows of requests one after the other: host-bound below a floor, the cache read above it."""
    row = first + np.arange(n_rows)
    request, token = np.divmod(row, TOKENS_A_REQUEST)
    of_request = request - request[0]
    n_requests = int(of_request[-1]) + 1
    prompt = generator.integers(16, 4000, n_requests)[of_request]
    batch = generator.choice([1, 4, 16, 32], n_requests)[of_request]
    context = prompt + token
    temperature_c = np.round(55 + 10 * np.sin(row / 3e6) + generator.normal(0, 1, n_rows))
    clock_mhz = np.where(temperature_c > 63, 1605, 1755) + 15.0 * generator.integers(-2, 3, n_rows)
    work_ms = 8 + 0.05 * batch + 2.2e-4 * batch * context + np.where(token == 0, 0.02 * prompt, 0)
    latency_ms = np.maximum(14, work_ms) * (1755 / clock_mhz) * generator.lognormal(0, 0.02, n_rows)
    ended_ns = first * 20_000_000 + (np.cumsum(latency_ms) * 1e6).astype(np.int64)
    return pa.table(
        {
            "request_id": request.astype(np.int32),
            "prompt_tokens": prompt.astype(np.int32),
            "context_length": context.astype(np.int32),
            "batch_size": batch.astype(np.int32),
            "token_index": token.astype(np.int32),
            TARGET: latency_ms,
            "completed_at_ns": 1_790_000_000_000_000_000 + ended_ns,
            "gpu_temperature_c": temperature_c,
            "sm_clock_mhz": clock_mhz,
            "is_warmup": request % 50 == 0,
        }
    )


def fit(kind: str, files: list[str]) -> dict[str, Any]:
    """Fit, and test nothing."""
    began = time.perf_counter(), time.process_time()
    with open_rows(Source(files, FEATURES[kind]), SETTINGS.memory_mb) as rows:
        _, train, _ = divide(rows, SETTINGS.split)
        _, near, how = fit_part(train, PIPELINES[kind], SETTINGS)
        return {"how": how, "n": near.n, "n_passes": rows.database.n_passes, **_cost(began)}


def fit_and_errors(kind: str, files: list[str]) -> dict[str, Any]:
    """Fit, and test on the held-out requests."""
    began = time.perf_counter(), time.process_time()
    found = fit_large(Source(files, FEATURES[kind]), PIPELINES[kind], SETTINGS)
    counts = {"n": found.metrics["n_events"], "n_passes": found.n_passes}
    return {"how": found.how, **counts, **_cost(began)}


def compare(kind: str, files: list[str]) -> dict[str, Any]:
    """Fit the same rows in memory, and return the largest relative difference of a coefficient."""
    n_rows = len(files) * GROUPS_A_FILE * ROWS_A_GROUP
    if kind == "physics" or psutil.virtual_memory().available < n_rows * BYTES_A_ROW_IN_MEMORY:
        files = files[:FEW_FILES]
    with open_rows(Source(files, FEATURES[kind]), SETTINGS.memory_mb) as rows:
        _, train, _ = divide(rows, SETTINGS.split)
        found, *_ = fit_part(train, PIPELINES[kind], SETTINGS)
        requests = groups_of(train).ids
        work, latency_ms = rows_in_memory(kind, files, requests)
    PIPELINES[kind].fit(work, latency_ms)
    pairs = zip(_coefficients(found), _coefficients(PIPELINES[kind]), strict=True)
    return {"n": len(work), "difference": max(abs(a - b) / abs(b) for a, b in pairs if a != b)}


def rows_in_memory(kind: str, files: list[str], requests: Any) -> tuple[pd.DataFrame, Any]:
    """Return features and latencies of requests, read without DuckDB."""
    parts = []
    for file in files:
        rows = pd.read_parquet(file)
        rows = rows[~rows["is_warmup"] & np.isin(rows["request_id"], requests)]
        rows = rows.assign(
            cache_tokens=rows["batch_size"] * rows["context_length"],
            prefill_tokens=rows["prompt_tokens"] * (rows["token_index"] == 0),
        )
        parts.append(rows[[*FEATURES[kind], TARGET]])
    together = pd.concat(parts, ignore_index=True)
    return together[list(FEATURES[kind])], together[TARGET].to_numpy()


def _coefficients(fitted: Pipeline) -> list[float]:
    regressor = fitted.named_steps["regressor"]
    others = ("intercept_",) if isinstance(regressor, Ridge) else ("overhead_ms_", "floor_ms_")
    return [*regressor.coef_, *(getattr(regressor, name) for name in others)]


def _in_a_process(what: str, kind: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, __file__, what, kind, folder]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(answer))


def _cost(began: tuple[float, float]) -> dict[str, float]:
    return {
        "wall_s": time.perf_counter() - began[0],
        "processor_s": time.process_time() - began[1],
        "peak_mb": _peak_bytes() / 1e6,
    }


def _peak_bytes() -> int:
    # getrusage would count what the parent held when it forked.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def _told(found: dict[str, Any]) -> str:
    return (
        f"{found['wall_s']:5.1f} s, {found['processor_s']:5.1f} s of processors, {found['peak_mb']:4.0f} MB, "
        f"{found['n']:,} rows, {found['n_passes']} passes: {found['how']}"
    )


if __name__ == "__main__":
    measurements = {"fit": fit, "fit_and_errors": fit_and_errors, "compare": compare}
    if sys.argv[1:2] and sys.argv[1] in measurements:
        what, kind, folder = sys.argv[1:]
        files = sorted(map(str, Path(folder).glob("*.parquet")))
        print(json.dumps(measurements[what](kind, files)))
    else:
        main()
