"""What is called inside of what was measured: there intervals hold, and elsewhere it is said.

Each statement fits a predictor on rows of a known law, asks it where the law does something else, and counts the
steps that are answered honestly: outside of what was measured, or within their interval.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmlat import OutsideError, OutsideWarning, Predictor, load_predictor
from llmlat.config import FeaturesConfig, SplitConfig, SplitName
from llmlat.fit.export import _ABOUT, write_predictor
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import analyse
from llmlat.records import DECODE, PREFILL
from truths import Answer, statement
from truths.rows import ABOUT, RIDGE, THESIS_FEATURES, rows_of

TREES = {"_target_": "sklearn.ensemble.HistGradientBoostingRegressor", "random_state": 0}
BATCHES = FeaturesConfig(["context_length", "batch_size"])
CLUMPS = (16, 64, 256, 1024, 4096)


def predictor_of(
    rows: pd.DataFrame,
    regressor: dict[str, Any] = RIDGE,
    features: FeaturesConfig = THESIS_FEATURES,
    split: SplitName = SplitName.by_request,
) -> Predictor:
    """Return the predictor of rows as a run writes and a program loads it."""
    about = {**dict.fromkeys(_ABOUT, "-"), **ABOUT}
    analysis = analyse(rows, build_pipeline(regressor, features), SplitConfig(split, 0.2, 0), about)
    with tempfile.TemporaryDirectory() as folder:
        write_predictor(Path(folder), analysis)
        return load_predictor(folder)


def honest(predictor: Predictor, truth_ms: Any, **steps: Any) -> Any:
    """Return which steps lie within their interval, or are said to be outside of what was measured."""
    found = predictor.estimate(level=0.9, **steps)
    return ~found.is_inside | ((found.low_ms <= truth_ms) & (truth_ms <= found.high_ms))


def held(predictor: Predictor, truth_ms: Any, **steps: Any) -> Any:
    """Return which steps lie within their interval, which may be infinite."""
    found = predictor.estimate(level=0.9, **steps)
    return (found.low_ms <= truth_ms) & (truth_ms <= found.high_ms)


def thesis_ms(rows: pd.DataFrame) -> Any:
    """Return a line of the context, and a dear prefill."""
    return 60 + 0.03 * rows["context_length"] + 250 * (rows["phase"] == PREFILL)


@statement(
    "90 % intervals of new requests hold", "a line, noise of 2 ms; inside of what was measured", at_least=0.85
)
def inside_new_requests(seed: int) -> Answer:
    """Return the share of new requests' decode steps inside that their intervals hold."""
    generator = np.random.default_rng(seed)
    known, new = (generator.integers(20, 900, n) for n in (30, 30))
    predictor = predictor_of(rows_of(thesis_ms, tuple(known), 24, noise=2.0, of_request=1.0, seed=seed))
    rows = rows_of(thesis_ms, tuple(new), 24, noise=2.0, of_request=1.0, seed=1000 + seed)
    rows = rows[(rows["phase"] == DECODE).to_numpy() & predictor.is_inside(rows).to_numpy()]
    steps = {name: rows[name] for name in predictor.inputs}
    return float(held(predictor, rows["token_latency_ms"].to_numpy(), **steps).mean())


@statement("new requests like the measured ones are inside", "a line, 30 prompts at random", at_least=0.8)
def inside_often(seed: int) -> Answer:
    """Return the share of new requests' steps that are inside."""
    generator = np.random.default_rng(seed)
    known, new = (generator.integers(20, 900, n) for n in (30, 30))
    predictor = predictor_of(rows_of(thesis_ms, tuple(known), 24, noise=2.0, seed=seed))
    return float(predictor.is_inside(rows_of(thesis_ms, tuple(new), 24)).mean())


@statement(
    "later tokens than were measured are outside, without an interval",
    "the thesis's protocol, at most 56 tokens; asked for the 100th to 300th",
    at_least=1.0,
)
def later_tokens(seed: int) -> Answer:
    """Return whether all of them are said to be outside, with infinite intervals."""
    generator = np.random.default_rng(seed)
    predictor = predictor_of(rows_of(thesis_ms, noise=2.0, seed=seed), split=SplitName.random)
    prompts = generator.integers(20, 300, 400)
    found = predictor.estimate(prompt_tokens=prompts, context_length=prompts + generator.integers(100, 300, 400))
    return bool((~found.is_inside).all() and np.isinf(found.high_ms).all() and found.outside)


def corner(seed: int, regressor: dict[str, Any]) -> Answer:
    """Return the share answered honestly of large batches at contexts that only small ones had."""
    generator = np.random.default_rng(seed)
    lengths, sizes = (64, 128, 256, 512, 1024, 2048, 4096) * 3, (16, 16, 16, 16, 4, 1, 1) * 3

    def law(size: Any, context: Any) -> Any:
        return 7 + 6e-5 * size * context + 0.05 * size + 1.5e-9 * (size * context) ** 2

    rows = rows_of(
        lambda r: law(r["batch_size"], r["context_length"].astype(float)),
        lengths,
        24,
        noise=0.05,
        batch_sizes=sizes,
        seed=seed,
    )
    rows = rows[rows["phase"] == DECODE].reset_index(drop=True)
    predictor = predictor_of(rows, regressor, BATCHES)
    contexts = generator.integers(2048, 4096, 300)
    truth = law(16, contexts) + generator.normal(0, 0.05, 300)
    found = honest(predictor, truth, context_length=contexts, batch_size=np.full(300, 16))
    return float((found & held(predictor, truth, context_length=contexts, batch_size=np.full(300, 16))).mean())


@statement("corners that were not measured", "batch 16 to 536 tokens, batch 1 to 4,119; a line", at_least=0.9)
def corner_of_a_line(seed: int) -> Answer:
    """Return what `corner` does of a line."""
    return corner(seed, RIDGE)


@statement("corners that were not measured", "batch 16 to 536 tokens, batch 1 to 4,119; trees", at_least=0.9)
def corner_of_trees(seed: int) -> Answer:
    """Return what `corner` does of trees."""
    return corner(seed, TREES)


@statement(
    "lengths between measured ones, by trees: held, or said to be outside",
    "5 lengths, each measured 10 times",
    at_least=0.9,
)
def between_lengths(seed: int) -> Answer:
    """Return the share answered honestly of lengths between."""
    generator = np.random.default_rng(seed)
    rows = rows_of(
        lambda r: 7 + 0.004 * r["context_length"], CLUMPS, 24, repetitions=10, noise=0.1, seed=seed
    )
    predictor = predictor_of(rows, TREES)
    prompts = generator.integers(1200, 3900, 300)
    contexts = prompts + generator.integers(1, 24, 300)
    truth = 7 + 0.004 * contexts + generator.normal(0, 0.1, 300)
    return float(honest(predictor, truth, prompt_tokens=prompts, context_length=contexts).mean())


@statement("larger batches than were measured: held", "batch 1 to 8, asked for 12 to 64; cost bends", at_least=0.9)
def larger_batches(seed: int) -> Answer:
    """Return the share of larger batches whose interval holds."""
    lengths = tuple(np.random.default_rng(seed).integers(64, 1000, 40))

    def law(size: Any, context: Any) -> Any:
        return 7 + 0.3 * size + 0.02 * size**2 + 5e-4 * context

    rows = rows_of(
        lambda r: law(r["batch_size"], r["context_length"]),
        lengths,
        30,
        noise=0.05,
        batch_sizes=(1, 2, 4, 8) * 10,
        seed=seed,
    )
    rows = rows[rows["phase"] == DECODE].reset_index(drop=True)
    sizes = np.array([12, 16, 32, 64])
    predictor = predictor_of(rows, features=BATCHES)
    return float(held(predictor, law(sizes, 500), context_length=500, batch_size=sizes).mean())


@statement("a text that was not measured is refused", "engines eager and no_cache; asked for vllm", at_least=1.0)
def unknown_text(seed: int) -> Answer:
    """Return whether `predict` refuses it, and `estimate` knows nothing of it."""
    rows = rows_of(thesis_ms, noise=2.0, seed=seed)
    rows["engine"] = np.where(rows["request_id"] % 2, "eager", "no_cache")
    features = FeaturesConfig(["prompt_tokens", "context_length", "engine"])
    predictor, step = predictor_of(rows, features=features), {"prompt_tokens": 300, "context_length": 310}
    try:
        predictor.predict(**step, engine="vllm")
    except OutsideError:
        return bool(np.isinf(predictor.estimate(**step, engine="vllm").high_ms))
    return False


@statement(
    "no prediction is quicker than the fastest step of its phase, nor outside of its interval",
    "a falling line, asked ten times beyond",
    at_least=1.0,
)
def never_quicker(seed: int) -> Answer:
    """Return whether predictions far outside stay possible, and are warned of."""
    rows = rows_of(lambda r: 80 - 0.05 * r["context_length"], noise=1.0, seed=seed)
    predictor = predictor_of(rows, split=SplitName.random)
    contexts = np.linspace(700, 7000, 50)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = predictor.predict(prompt_tokens=640, context_length=contexts)
    fastest = rows["token_latency_ms"].groupby(rows["phase"]).min()[DECODE]
    found = predictor.estimate(prompt_tokens=640, context_length=contexts)
    is_warned = [issubclass(one.category, OutsideWarning) for one in caught] == [True]
    within = (found.low_ms <= found.ms) & (found.ms <= found.high_ms)
    return bool(is_warned and (told >= fastest - 1e-9).all() and within.all())
