"""The law of a step, fitted: it finds a law that is known, and keeps to what is known of the card."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.base import clone

from llmlat.config import FeaturesConfig, config_dir
from llmlat.fit.fitting import build_pipeline, fit
from llmlat.fit.regressors import StepRegressor
from llmlat.formulas.recipe import recipe_of
from llmlat.formulas.step_law import COEFFICIENTS, COLUMNS, step_ms
from llmlat.shape import shape_of

MODELS: tuple[dict[str, Any], ...] = (
    {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32768,
    },
    {
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128256,
    },
)
TRUTH = {one.name: one.start * factor for one, factor in zip(COEFFICIENTS, [1.2, 0.9, 1.1] * 5, strict=False)}
FEATURES = yaml.safe_load((config_dir() / "features" / "step.yaml").read_text(encoding="utf-8"))


def batches(n: int, seed: int) -> pd.DataFrame:
    """Return steps of both models: half decode alone, half work on a prompt too."""
    drawn = np.random.default_rng(seed)
    mixed = drawn.random(n) < 0.5
    tokens = np.where(mixed, 2 ** drawn.uniform(3, 11, n), 0).astype(int)
    decoding = np.maximum((2 ** drawn.uniform(0, 7, n)).astype(int), 1)
    shapes = pd.DataFrame([shape_of(MODELS[i]) for i in drawn.integers(0, 2, n)])
    return shapes.assign(
        decode_requests=decoding,
        decode_context_tokens=decoding * (2 ** drawn.uniform(5, 12, n)).astype(int),
        prefill_requests=mixed.astype(int),
        prefill_tokens=tokens,
        prefill_cached_tokens=0,
        prefill_pairs=tokens * (tokens + 1) / 2,
        largest_graph_tokens=512,
        first_visit=(mixed & (tokens > 512) & (drawn.random(n) < 0.3)).astype(int),
        request_id=np.arange(n) // 20,
    )


def steps(n: int = 600, seed: int = 0, noise: float = 0.03) -> tuple[pd.DataFrame, Any]:
    """Return the work of steps, and times of the true law with noise whose mean is 1."""
    rows = batches(n, seed)
    values: dict[str, Any] = {name: rows[name].to_numpy() for name in rows}
    for name, formula in recipe_of(FEATURES["columns"], FEATURES["derived"]).steps.items():
        values[name] = formula(values)
    work = pd.DataFrame({name: np.broadcast_to(values[name], n) for name in COLUMNS}).astype(float)
    noisy = np.random.default_rng(seed + 1).lognormal(-(noise**2) / 2, noise, n)
    return work, step_ms(TRUTH, work) * noisy


def test_it_finds_a_known_law_on_steps_that_it_has_not_seen() -> None:
    fitted = StepRegressor(independent_rows=600, relative_noise=0.03).fit(*steps())
    work, _ = steps(seed=7)
    misses = fitted.predict(work) / step_ms(TRUTH, work) - 1
    assert np.abs(misses).mean() < 0.01
    for name in ("bandwidth_gb_s", "matrix_tflop_s", "first_visit_us"):
        assert fitted.coefficients_[name] == pytest.approx(TRUTH[name], rel=3 * fitted.spread_[name])


def test_predicted_times_add_up_to_measured_ones() -> None:
    sums = []
    for seed in range(5):
        work, measured = steps(seed=seed, noise=0.3)
        fitted = StepRegressor(independent_rows=600, relative_noise=0.3).fit(work, measured)
        sums.append(fitted.predict(work).sum() / measured.sum())
    assert np.mean(sums) == pytest.approx(1, abs=0.02)


def test_what_the_steps_do_not_tell_stays_as_it_was_known() -> None:
    work, measured = steps()
    decoding = (work["prompts"] == 0).to_numpy()
    known = {"attention_tflop_s": [321.0, 0.1]}
    fitted = StepRegressor(priors=known).fit(work[decoding], measured[decoding])
    assert fitted.coefficients_["attention_tflop_s"] == pytest.approx(321.0)
    assert fitted.spread_["attention_tflop_s"] == pytest.approx(0.1)
    assert fitted.spread_["bandwidth_gb_s"] < 0.2  # 0.5 before


def test_a_fit_is_the_start_of_the_next() -> None:
    first = StepRegressor().fit(*steps())
    work, measured = steps(n=3, seed=3)
    second = StepRegressor(priors=first.posterior(widened=0.05)).fit(work, measured)
    assert np.abs(second.predict(work) / step_ms(TRUTH, work) - 1).max() < 0.05
    assert all(second.spread_[name] <= first.spread_[name] + 0.0501 for name in first.spread_)


def test_steps_that_tell_most_beat_as_many_drawn_at_random() -> None:
    work, measured = steps(n=2000)
    vague = StepRegressor().fit(work.iloc[:1], measured[:1])
    chosen = vague.telling(work, 30)
    assert len(set(chosen.tolist())) == 30
    told = StepRegressor().fit(work.iloc[chosen], measured[chosen])
    drawn = np.random.default_rng(0).choice(len(work), 30, replace=False)
    random = StepRegressor().fit(work.iloc[drawn], measured[drawn])
    assert sum(np.log(list(told.spread_.values()))) < sum(np.log(list(random.spread_.values())))


def test_equal_work_is_fitted_alike_whatever_the_order_of_columns() -> None:
    work, measured = steps(n=100)
    one = StepRegressor().fit(work, measured)
    other = clone(one).fit(work[work.columns[::-1]], measured)
    assert other.coefficients_ == pytest.approx(one.coefficients_)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda work, y: (work.drop(columns="kv_bytes"), y), "needs kv_bytes; use features=step"),
        (lambda work, y: (work.to_numpy(), y), "use features=step"),
        (lambda work, y: (-work, y), "0 or more"),
        (lambda work, y: (work, -y), "not above 0 ms"),
    ],
)
def test_what_is_no_step_is_refused(change: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        StepRegressor().fit(*change(*steps(n=20)))


@pytest.mark.parametrize("priors", [{"bandwith_gb_s": [1, 1]}, {"layer_us": [0, 1]}, {"layer_us": [1, -1]}])
def test_priors_that_mean_nothing_are_refused(priors: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="priors"):
        StepRegressor(priors=priors).fit(*steps(n=20))


def test_the_features_lead_from_a_batch_to_a_prediction() -> None:
    rows = batches(300, seed=0)
    work, measured = steps(n=300, seed=0)
    features = FeaturesConfig(columns=FEATURES["columns"], derived=FEATURES["derived"])
    pipeline = build_pipeline({"_target_": "llmlat.fit.regressors.StepRegressor"}, features)
    fitted = fit(pipeline, rows.assign(token_latency_ms=measured))
    assert fitted.predict(rows) == pytest.approx(StepRegressor().fit(work, measured).predict(work))
