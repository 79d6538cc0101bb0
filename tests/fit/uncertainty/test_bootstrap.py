"""Intervals over requests, against drawing requests by brute force."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import Pipeline

from llmlat.config import SplitName
from llmlat.fit.fitting import fit, input_columns, predict
from llmlat.fit.results import Analysis
from llmlat.fit.uncertainty import bootstrap
from llmlat.fit.uncertainty.bootstrap import coefficient_intervals, draws_of, error_intervals

MakeRows = Callable[..., pd.DataFrame]
MakePipeline = Callable[..., Pipeline]


N_DRAWS = 60


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "draws_of", lambda n_groups: draws_of(n_groups, n_draws=N_DRAWS))


@pytest.fixture(scope="module")
def rows(make_rows: MakeRows) -> pd.DataFrame:
    made = make_rows([10, 60, 200, 350, 410, 500, 640], tokens=[3, 9, 4, 8, 5, 12, 6], noise_ms=2.0)
    offsets = np.random.default_rng(1).normal(0, 3, 7)
    return made.assign(token_latency_ms=made["token_latency_ms"] + offsets[made["request_id"]])


def copies(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return every resample, its requests copied as often as they were drawn."""
    parts = [part for _, part in rows.groupby("request_id")]
    draws = draws_of(len(parts), n_draws=N_DRAWS).astype(int)
    return [pd.concat([part for k, part in enumerate(parts) for _ in range(n[k])]) for n in draws]


def ends(values: list[float]) -> list[float]:
    share = norm.cdf(np.sqrt(7 / 6) * t.ppf(0.025, 6))  # of seven requests
    return list(np.quantile(values, [share, 1 - share]))


def test_draws_are_of_as_many_groups_as_there_are() -> None:
    draws = draws_of(7)
    assert draws.shape == (1000, 7)
    assert set(draws.sum(axis=1)) == {7}
    np.testing.assert_array_equal(draws, draws_of(7))
    np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.1)


@pytest.mark.parametrize(("n_requests", "at_least"), [(5, 0.85), (8, 0.90), (40, 0.93)])
def test_intervals_of_few_requests_hold_nearly_as_often_as_they_say(
    n_requests: int, at_least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of unlike length share how noisy they are; plain percentiles hold 81, 86 and 92.5 %."""
    monkeypatch.setattr(bootstrap, "draws_of", draws_of)
    generator, held = np.random.default_rng(0), 0
    for _ in range(300):
        request = np.repeat(np.arange(n_requests), generator.integers(5, 40, n_requests))
        noise_ms = generator.lognormal(0.0, 0.5, n_requests)[request]
        miss_ms = np.abs(generator.normal(0, 1, len(request))) * noise_ms
        told = {"request_id": request, "token_latency_ms": 100.0, "predicted_ms": 100.0 + miss_ms}
        found = error_intervals(pd.DataFrame(told), "request_id")
        assert found is not None
        low, high = found["mae_ms"]
        held += low <= np.sqrt(2 / np.pi) * np.exp(0.125) <= high  # the mean of both distributions
    assert at_least < held / 300 < 0.99, f"{held / 300:.1%}"


def test_errors_as_by_brute_force(rows: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    told = rows.assign(predicted_ms=predict(fit(make_pipeline(), rows), rows))
    found = error_intervals(told, "request_id")
    assert found is not None
    misses = [
        (copy["token_latency_ms"] - copy["predicted_ms"], copy["token_latency_ms"]) for copy in copies(told)
    ]
    assert found["mae_ms"] == pytest.approx(ends([miss.abs().mean() for miss, _ in misses]))
    assert found["rmse_ms"] == pytest.approx(ends([(miss**2).mean() ** 0.5 for miss, _ in misses]))
    assert found["mape"] == pytest.approx(ends([(miss.abs() / measured).mean() for miss, measured in misses]))
    assert found["n_groups"] == 7


@pytest.mark.parametrize(
    ("target", "parameters"),
    [("linear_model.Ridge", {"alpha": 4.0}), ("linear_model.LinearRegression", {})],
)
def test_coefficients_as_by_brute_force(
    rows: pd.DataFrame, make_pipeline: MakePipeline, target: str, parameters: dict[str, float]
) -> None:
    fitted = fit(make_pipeline(target, **parameters), rows)
    found = coefficient_intervals(fitted, rows, "request_id")
    assert found is not None
    plain = Ridge(**parameters) if parameters else LinearRegression()
    drawn = np.array(
        [
            plain.fit(
                np.asarray(fitted[:-1].transform(copy[input_columns(fitted)])), copy["token_latency_ms"]
            ).coef_
            for copy in copies(rows)
        ]
    )
    for k, name in enumerate(("prompt_tokens", "context_length")):
        assert found[name]["scaled_ms"] == pytest.approx(ends(drawn[:, k]), rel=1e-6, abs=1e-6)
        scale = fitted.named_steps["scaled"].scale_[k]
        assert found[name]["per_unit_ms"] == pytest.approx(ends(drawn[:, k] / scale), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("linear_model.HuberRegressor", {}),
        ("ensemble.RandomForestRegressor", {"n_estimators": 2}),
        ("linear_model.Ridge", {"fit_intercept": False}),
        ("linear_model.LinearRegression", {"positive": True}),
    ],
)
def test_there_are_none_of_what_is_not_plain_least_squares(
    rows: pd.DataFrame, make_pipeline: MakePipeline, target: str, parameters: dict[str, float]
) -> None:
    fitted = fit(make_pipeline(target, **parameters), rows)
    assert coefficient_intervals(fitted, rows, "request_id") is None


def test_four_groups_are_too_few(rows: pd.DataFrame, make_pipeline: MakePipeline) -> None:
    few = rows[rows["request_id"] < 4]
    fitted = fit(make_pipeline(), few)
    assert coefficient_intervals(fitted, few, "request_id") is None
    assert error_intervals(few.assign(predicted_ms=1.0), "request_id") is None


def test_they_are_of_prompts_where_prompts_repeat(
    make_rows: MakeRows, analysed: Callable[..., Analysis]
) -> None:
    rows = make_rows(np.arange(20, 620, 20), tokens=4, repetitions=2, noise_ms=1.0)
    for split in (SplitName.by_request, SplitName.by_prompt):
        analysis = analysed(rows, split=split)
        found = analysis.metrics["intervals"]
        assert found["errors"]["n_groups"] == analysis.predictions["prompt_id"].nunique()
        low, high = found["errors"]["mae_ms"]
        assert low < high
