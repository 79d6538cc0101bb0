"""What a prediction states: the mean, so that sums of predictions come to what was measured.

Every regressor that is shipped is fitted on 40 requests, and asked of 60 others whose expected latencies are
known. The answer is the sum of the decode steps' predictions over the sum of what is to be expected of them;
noise is the same for all regressors, so what a seed's few held-up steps do to one, they do to each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import yaml

from llmlat.config import FeaturesConfig, config_dir
from llmlat.fit.fitting import build_pipeline, fit, predict
from llmlat.fit.regressors import AutoRegressor, PhysicsRegressor
from llmlat.records import DECODE, PREFILL, PROMPT, REQUEST
from truths import Answer, statement
from truths.rows import rows_of, timed

REGRESSORS = (
    "ridge",
    "log_ridge",
    "huber",
    "hist_gradient_boosting",
    "xgboost",
    "random_forest",
    "physics",
    "hybrid",
    "auto",
)
LENGTHS = tuple(np.linspace(64, 4096, 40).astype(int))
N_TOKENS, N_ASKED = 24, 60
SPREAD, EVERY = 0.3, 33


def mean_ms(rows: pd.DataFrame) -> Any:
    """Return 20 ms, 10 ms per 1,000 tokens of context and 50 more where they are read for the first time."""
    prefill_ms = np.where(rows["phase"] == PREFILL, 0.05 * rows["prompt_tokens"], 0.0)
    return 20 + 0.01 * rows["context_length"] + prefill_ms


def lognormal(generator: np.random.Generator, n: int) -> tuple[Any, float]:
    """Return factors whose logarithm is normal, and their mean."""
    return np.exp(SPREAD * generator.normal(size=n)), float(np.exp(SPREAD**2 / 2))


def spiky(generator: np.random.Generator, n: int) -> tuple[Any, float]:
    """Return factors of which one in 33 is 10, and their mean: evenly spread, from a place at random."""
    held_up = (np.arange(n) + generator.integers(EVERY)) % EVERY == 0
    return np.where(held_up, 10.0, 1.0) * np.exp(0.02 * generator.normal(size=n)), 1 + 9 / EVERY


NOISES = {
    "lognormal": (lognormal, "lognormal noise, sd 0.3"),
    "spiky": (spiky, "one step in 33 ten times slower"),
}


def sums(regressor: str, noise: str, seed: int) -> Answer:
    """Return predicted over expected, summed over the decode steps of new requests."""
    generator = np.random.default_rng(seed)
    train, asked = (rows_of(mean_ms, lengths, N_TOKENS) for lengths in (LENGTHS, _new_lengths(generator)))
    factors, expected = NOISES[noise][0](generator, len(train))
    fitted = fit(_pipeline(regressor), timed(train, mean_ms(train) * factors))
    decode = asked[asked["phase"] == DECODE]
    return float(predict(fitted, decode).sum() / (expected * mean_ms(decode)).sum())


def _new_lengths(generator: np.random.Generator) -> tuple[int, ...]:
    return tuple(generator.integers(64, 4096, N_ASKED))


def _pipeline(regressor: str) -> Any:
    def option(group: str, name: str) -> dict[str, Any]:
        text = (config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")
        found: dict[str, Any] = yaml.safe_load(text)
        return found

    features = FeaturesConfig(**option("features", "physics"))
    return build_pipeline(option("regressor", regressor), features)


def _named(name: str, ask: Callable[[int], Answer]) -> Callable[[int], Answer]:
    ask.__name__ = name  # type: ignore[attr-defined]
    return ask


for _noise, (_, _words) in NOISES.items():
    # A forest keeps single held-up rows in leaves of their own: over a few seeds its sum tells nothing.
    for _regressor in (one for one in REGRESSORS if (_noise, one) != ("spiky", "random_forest")):
        _says = f"predicted over measured, summed: {_regressor}"
        _named_one = _named(f"sums_{_noise}_{_regressor}", partial(sums, _regressor, _noise))
        statement(_says, _words, at_least=0.98, at_most=1.02)(_named_one)


@statement("a floor, where there is none", "a line, each request 5 % off as a whole", at_most=0.05)
def floor_of_requests(seed: int) -> Answer:
    """Return whether the physics finds a floor that is not there."""
    lengths = tuple(np.random.default_rng(seed).integers(64, 2000, 20))
    rows = rows_of(lambda r: 20 + 0.01 * r["context_length"], lengths, 30, noise=0.01, of_request=0.05,
                   is_relative=True, seed=seed)  # fmt: skip
    decode = rows[rows["phase"] == DECODE]
    fitted = PhysicsRegressor().fit(
        decode[["context_length"]], decode["token_latency_ms"].to_numpy(), groups=decode[REQUEST].to_numpy()
    )
    return bool(fitted.floor_ms_ > 0)


@statement(
    "`auto` by prompts: over the best for new lengths", "a wave along lengths, each ten times", at_most=1.1
)
def choice_by_prompts(seed: int) -> Answer:
    """Return the error of the choice on lengths in between, over that of the better of its candidates."""
    generator = np.random.default_rng(seed)

    def wave(rows: pd.DataFrame) -> Any:
        return 7 + 0.004 * rows["context_length"] + 0.8 * np.sin(rows["prompt_tokens"])

    train = rows_of(wave, (16, 64, 128, 256, 512, 1024, 2048, 4096), N_TOKENS, 6, noise=0.05, seed=seed)
    asked = rows_of(wave, _new_lengths(generator), N_TOKENS, seed=seed)
    columns = ["prompt_tokens", "context_length"]
    candidates = AutoRegressor()._candidates() | _trees()
    errors = {}
    for name, one in {**{n: {n: c} for n, c in candidates.items()}, "auto": candidates}.items():
        fitted = AutoRegressor(one).fit(train[columns], train["token_latency_ms"], groups=train[PROMPT])
        missed = fitted.predict(asked[columns]) / asked["token_latency_ms"] - 1
        errors[name] = float(np.abs(missed).mean())
    return errors.pop("auto") / min(errors.values())


def _trees() -> dict[str, Any]:
    from sklearn.ensemble import RandomForestRegressor

    return {"trees": RandomForestRegressor(20, random_state=0)}
