"""The tasks of held_out.py: what each data set's rows are, the work in them, and what is held out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from attention_work import decode_work, prefill_work
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from llmlat.fit.regressors import BoostedRegressor, HybridRegressor, LevelledRegressor, PhysicsRegressor

Split = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

SMALLER_SHARE = 0.6


class SmallerToLarger:
    """One fold of rows in order of size: the larger ones, with the smaller ones to fit on."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Yield the positions of the smaller and of the larger rows."""
        is_smaller = groups <= np.quantile(groups, SMALLER_SHARE)
        yield np.flatnonzero(is_smaller), np.flatnonzero(~is_smaller)


@dataclass
class Task:
    """A target to predict, and what is held out to test it.

    Attributes
    ----------
    name, target, held_out : str
        The data set, its column of latencies, and a word on what the folds hold out.
    rows : DataFrame
        Features, target and group of each measurement.
    columns : list of str
        The features.
    group : str
        Rows that are alike have it in common; where sizes are held out, the size.
    folds : list
        Training and test positions.
    candidates : dict of str to regressor
    auto_cv : int or splitter
        How `auto` divides training rows, which come in order of `group`.
    to_reach : str
        The error that was asked for.
    """

    name: str
    target: str
    held_out: str
    rows: pd.DataFrame
    columns: list[str]
    group: str
    folds: list[Split]
    candidates: dict[str, Any]
    to_reach: str = ""
    auto_cv: Any = field(default=5)


def tasks(data: Path) -> Iterator[Task]:
    """Yield all tasks."""
    yield from _splitwise(pd.read_csv(data / "splitwise" / "perf_model.csv"))
    yield from _vidur(pd.read_csv(data / "vidur" / "a100_attention.csv"))
    yield _h200(pd.read_csv(data / "h200_probe" / "eager_and_graph_events.csv"))


# Splitwise: two models served on A100 and H100 nodes. Constants from the models' configurations and the
# devices' data sheets (dense 16-bit operations, memory bandwidth, NVLink bandwidth each way).
PARAMETERS = {"llama2-70b": 69e9, "bloom-176b": 176e9}
LAYERS = {"llama2-70b": 80, "bloom-176b": 70}
HIDDEN = {"llama2-70b": 8192, "bloom-176b": 14336}
KV_BYTES_PER_TOKEN = {"llama2-70b": 2 * 80 * 8 * 128 * 2, "bloom-176b": 2 * 70 * 14336 * 2}
OPERATIONS_PER_MS = {"a100-80gb": 312e9, "h100-80gb": 989e9, "h100-80gb-pcap": 989e9}
BYTES_PER_MS = {"a100-80gb": 2.04e9, "h100-80gb": 3.35e9, "h100-80gb-pcap": 3.35e9}
LINK_BYTES_PER_MS = {"a100-80gb": 300e6, "h100-80gb": 450e6, "h100-80gb-pcap": 450e6}

CONFIGURATION = ["model", "hardware", "tensor_parallel", "prompt_size", "batch_size", "token_size"]


def _splitwise(measured: pd.DataFrame) -> Iterator[Task]:
    work, sizes = _serving_work(measured), _serving_sizes(measured)
    rows = pd.concat([measured[["prompt_time", "token_time"]], work, sizes], axis=1)
    rows["configuration"] = measured.groupby(CONFIGURATION).ngroup()
    # A prefill does not know how many tokens will follow it: configurations that differ in token_size alone
    # are one and the same to it, and only the shape holds it out whole.
    rows["shape"] = measured.groupby(CONFIGURATION[:-1]).ngroup()
    physics = _only(list(work), PhysicsRegressor())
    trees = _only(list(sizes), GradientBoostingRegressor(n_estimators=300, max_depth=4, random_state=0))
    process = _of_log(_only(list(sizes), _smooth(sizes.shape[1])), scaled=True)
    hybrid = HybridRegressor(_only(list(work), PhysicsRegressor("mape")), trees)
    candidates = {
        "median": DummyRegressor(strategy="median"),
        "random_forest": _of_log(_only(list(sizes), RandomForestRegressor(200, random_state=0))),
        "gradient_boosting": _of_log(trees),
        "xgboost": _of_log(_only(list(sizes), BoostedRegressor("xgboost"))),
        "gaussian_process": process,
        "physics": physics,
        "hybrid": hybrid,
        "mean of the two": VotingRegressor([("gaussian_process", process), ("hybrid", hybrid)]),
    }
    for target, group, to_reach in (
        ("prompt_time", "configuration", "9 %"),
        ("prompt_time", "shape", ""),
        ("token_time", "configuration", "1.6 %"),
    ):
        folds = GroupKFold(5, shuffle=True, random_state=0).split(rows, groups=rows[group])
        columns = [*work, *sizes]
        yield Task("splitwise", target, group, rows, columns, group, list(folds), candidates, to_reach)


def _serving_work(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a prefill and a decode step would take at the data sheet's rates, in ms."""
    model, hardware, devices = rows["model"], rows["hardware"], rows["tensor_parallel"]
    prompt, batch = rows["prompt_size"], rows["batch_size"]
    tokens, per_ms = prompt * batch, hardware.map(OPERATIONS_PER_MS) * devices
    hidden_layers = model.map(LAYERS) * model.map(HIDDEN)
    read_per_ms = hardware.map(BYTES_PER_MS) * devices
    reduced_bytes = 2 * 2 * 2 * tokens * hidden_layers * (devices - 1) / devices  # two reductions a layer
    context = prompt + rows["token_size"] / 2
    return pd.DataFrame(
        {
            "matmul_ms": 2 * model.map(PARAMETERS) * tokens / per_ms,
            "attention_ms": 2 * hidden_layers * tokens * prompt / per_ms,
            "reduction_ms": reduced_bytes / hardware.map(LINK_BYTES_PER_MS),
            "weights_ms": 2 * model.map(PARAMETERS) / read_per_ms,
            "kv_cache_ms": batch * context * model.map(KV_BYTES_PER_TOKEN) / read_per_ms,
            "layers": model.map(LAYERS),
            "sequences": batch,
        }
    ).astype(float)


def _serving_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    numbers = rows[["prompt_size", "batch_size", "token_size", "tensor_parallel"]].astype(float)
    flags = {
        "is_bloom": rows["model"] == "bloom-176b",
        "is_h100": rows["hardware"] != "a100-80gb",
        "is_power_capped": rows["hardware"] == "h100-80gb-pcap",
    }
    prompt_tokens = numbers["prompt_size"] * numbers["batch_size"]
    return numbers.assign(
        prompt_tokens=prompt_tokens, **{key: flag.astype(float) for key, flag in flags.items()}
    )


def _smooth(n_columns: int) -> Any:
    """Return a Gaussian process on logarithmic sizes, each with a length scale of its own.

    Rooflines have corners, so it is once differentiable, and no smoother.
    """
    likeness = Matern(np.ones(n_columns), (0.1, 100), nu=1.5)
    kernel = ConstantKernel() * likeness + WhiteKernel(1e-3, (1e-5, 1e-1))
    return make_pipeline(
        FunctionTransformer(np.log1p),
        StandardScaler(),
        GaussianProcessRegressor(kernel, random_state=0),
    )


def _vidur(measured: pd.DataFrame) -> Iterator[Task]:
    decode = measured[~measured["is_prefill"]].rename(columns={"time_stats.attn_decode.median": "decode"})
    prefill = measured[measured["is_prefill"]].rename(columns={"time_stats.attn_prefill.median": "prefill"})
    chunk, cached = prefill["prefill_chunk_size"], prefill["kv_cache_size"]
    decode = decode.assign(work=decode["batch_size"] * decode["kv_cache_size"])
    prefill = prefill.assign(work=chunk * (cached + chunk / 2))
    for size in ("batch_size", "kv_cache_size", "work"):
        yield _larger_sizes("decode", decode, decode_work(decode), size, to_reach="5.5 %")
    for size in ("prefill_chunk_size", "kv_cache_size", "work"):
        yield _larger_sizes("prefill", prefill, prefill_work(prefill), size, to_reach="6 %")


def _larger_sizes(
    target: str, measured: pd.DataFrame, work: dict[str, pd.DataFrame], size: str, to_reach: str
) -> Task:
    features = pd.concat(work.values(), axis=1)
    rows = features.assign(**{target: measured[target], "held_out_size": measured[size]})
    folds = list(SmallerToLarger().split(rows, groups=rows["held_out_size"].to_numpy()))
    physics, unbent = (
        _only([*work["tokens"], *work["kernel"]], PhysicsRegressor(criterion))
        for criterion in ("mean", "mape")
    )
    shallow = HistGradientBoostingRegressor(max_depth=3, random_state=0)
    candidates = {
        "median": DummyRegressor(strategy="median"),
        "ridge": _only(list(work["tokens"]), make_pipeline(StandardScaler(), Ridge())),
        "hist_gradient_boosting": _of_log(BoostedRegressor("sklearn")),
        "xgboost": _of_log(BoostedRegressor("xgboost")),
        "physics, tokens": _only(list(work["tokens"]), PhysicsRegressor()),
        "physics": physics,
        "hybrid": HybridRegressor(unbent, shallow),
        "hybrid, deep": HybridRegressor(unbent),
    }
    return Task(
        "vidur",
        target,
        f"larger {size}",
        rows,
        list(features),
        "held_out_size",
        folds,
        candidates,
        to_reach,
        SmallerToLarger(),
    )


def _h200(measured: pd.DataFrame) -> Task:
    decode = measured[(measured["engine"] == "graph") & (measured["step"] > 0)].reset_index(drop=True)
    batch = decode["batch"].astype(float)
    allocated = batch * decode["alloc"]  # a static cache is read whole
    follows_prefill = (decode["step"] == 1).astype(float)  # what it reads has left the caches
    rows = pd.DataFrame(
        {
            "sequences": batch,
            "allocated_tokens": allocated,
            "follows_prefill": follows_prefill,
            "uncached_tokens": follows_prefill * allocated,
            "context_tokens": batch * decode["context"],
            "prompt_tokens": decode["prompt"].astype(float),
            "ms": decode["ms"],
            "request": decode.groupby(["batch", "alloc", "prompt", "rep"]).ngroup(),
        }
    )
    folds = GroupKFold(5, shuffle=True, random_state=0).split(rows, groups=rows["request"])
    candidates = {
        "median": DummyRegressor(strategy="median"),
        "ridge": make_pipeline(StandardScaler(), Ridge()),
        "hist_gradient_boosting": _of_log(BoostedRegressor("sklearn")),
        "xgboost": _of_log(BoostedRegressor("xgboost")),
        "physics": PhysicsRegressor(),
        "hybrid": HybridRegressor(),
    }
    columns = list(rows.columns.drop(["ms", "request"]))
    return Task(
        "h200_probe", "ms", "request", rows, columns, "request", list(folds), candidates, "1.5 x noise"
    )


def _only(columns: list[str], regressor: Any) -> Any:
    """Return the regressor on some of the columns."""
    chosen = ColumnTransformer([("only", "passthrough", columns)], verbose_feature_names_out=False)
    return make_pipeline(chosen.set_output(transform="pandas"), regressor)


def _of_log(regressor: Any, scaled: bool = False) -> Any:
    """Return the regressor of the log latency, standardised where it expects targets of size 1."""
    standard = TransformedTargetRegressor(regressor, transformer=StandardScaler())
    return LevelledRegressor(standard if scaled else regressor, of_log=True)
