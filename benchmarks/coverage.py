"""Whether 90 % intervals hold 90 %: of groups that had no part in fit or calibration.

    python benchmarks/coverage.py --data DIR

DIR holds splitwise/perf_model.csv, vidur/a100_attention.csv and h200_probe/eager_and_graph_events.csv. Each
is divided twenty times; a fifth of the groups is held out each time, and the mean is over all of them. Beside
it stands what bands hold that are calibrated row by row, as is usual.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmlat.config import FeaturesConfig, SplitConfig, SplitName, TableColumnsConfig, TableConfig
from llmlat.fit.evaluation import held_out, out_of_fold
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.split import split_rows
from llmlat.fit.uncertainty.calibration import calibrate_bands, coverage
from llmlat.records import REQUEST
from llmlat.sources.table import known_columns, rows_of_table

N_DIVISIONS = 20
TREES = {
    "_target_": "sklearn.compose.TransformedTargetRegressor",
    "func": {"_target_": "hydra.utils.get_method", "path": "numpy.log"},
    "inverse_func": {"_target_": "hydra.utils.get_method", "path": "numpy.exp"},
    "regressor": {
        "_target_": "sklearn.ensemble.HistGradientBoostingRegressor",
        "max_iter": 100,
        "random_state": 0,
    },
}
REGRESSORS = {"ridge": {"_target_": "sklearn.linear_model.Ridge"}, "boosted trees": TREES}


def tables(data: Path) -> dict[str, tuple[TableConfig, FeaturesConfig]]:
    """Return what is fitted: a table, and the features of it."""
    serving = TableConfig(
        path=str(data / "splitwise/perf_model.csv"),
        group=["model", "hardware", "tensor_parallel", "prompt_size", "batch_size", "token_size"],
        columns=TableColumnsConfig(prompt_tokens="prompt_size", context_length="prompt_size + token_size"),
    )
    seen = FeaturesConfig(["prompt_size", "batch_size", "tensor_parallel", "model", "hardware"])
    kernel = TableConfig(
        path=str(data / "vidur/a100_attention.csv"),
        latency="time_stats.attn_decode.median",
        group=["batch_size", "kv_cache_size"],
        columns=TableColumnsConfig(context_length="kv_cache_size"),
        where="is_prefill == 0",
    )
    graph = TableConfig(
        path=str(data / "h200_probe/eager_and_graph_events.csv"),
        latency="ms",
        group=["batch", "rep", "prompt", "alloc"],
        columns=TableColumnsConfig(prompt_tokens="prompt", context_length="context"),
        where="(engine != 'eager') * (step > 0)",
    )
    return {
        "Splitwise prompt_time": (replace(serving, latency="prompt_time"), seen),
        "Splitwise token_time": (replace(serving, latency="token_time"), seen),
        "Vidur decode attention": (kernel, FeaturesConfig(["batch_size", "kv_cache_size"])),
        "H200 CUDA-graph decoding": (graph, FeaturesConfig(["batch", "context", "alloc"])),
    }


def held(table: TableConfig, features: FeaturesConfig, regressor: dict[str, object]) -> tuple[float, float]:
    """Return the share of held-out groups' rows inside, of bands calibrated on groups and on rows."""
    rows = rows_of_table(table, "").steps
    pipeline = build_pipeline(regressor, features, known_columns(table))
    by_group, by_row = [], []
    for seed in range(N_DIVISIONS):
        split = SplitConfig(SplitName.by_request, 0.2, seed, group="request")
        tested = held_out(rows, pipeline, split_rows(rows, split), REQUEST)
        train = rows.iloc[tested.train]
        test = rows.iloc[tested.test]
        for held_whole, shares in ((REQUEST, by_group), (None, by_row)):
            found = out_of_fold(train, pipeline, held_whole).predictions
            if held_whole is None:  # as is usual: each row counts for itself
                found = found.assign(**{REQUEST: np.arange(len(found))})
            bands = calibrate_bands(found, REQUEST)
            shares.append(coverage(test, tested.predicted_ms, bands)["coverage"])
    return float(np.mean(by_group)), float(np.mean(by_row))


def main() -> None:
    """Print a line a dataset and regressor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    print(f"{'':28}{'':16}{'held by a 90 % interval, calibrated on'}")
    print(f"{'':28}{'':16}{'groups':>10}{'rows':>10}")
    for name, (table, features) in tables(data).items():
        for regressor, settings in REGRESSORS.items():
            by_group, by_row = held(table, features, settings)
            print(f"{name:28}{regressor:16}{by_group:>10.1%}{by_row:>10.1%}", flush=True)


if __name__ == "__main__":
    main()
