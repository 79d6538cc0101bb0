"""The coefficient table and the formula's text, against Ridge worked out by hand and against the pipeline."""

import re
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from llmlat.fit.coefficients import coefficient_table, formula
from llmlat.fit.fitting import fit

FEATURES = ["prompt_tokens", "context_length"]
NUMBER = r"-?[\d.]+"


def test_the_table_is_ridge_by_hand(
    thesis_rows: pd.DataFrame, make_pipeline: Callable[..., Pipeline]
) -> None:
    table = coefficient_table(fit(make_pipeline(alpha=3.0), thesis_rows))
    X = thesis_rows[FEATURES].to_numpy(dtype=float)
    y = thesis_rows["token_latency_ms"].to_numpy()
    mean, scale = X.mean(axis=0), X.std(axis=0)
    Z = (X - mean) / scale
    weights = np.linalg.solve(Z.T @ Z + 3.0 * np.eye(2), Z.T @ (y - y.mean()))
    for k, name in enumerate(FEATURES):
        assert table["coefficients"][name] == pytest.approx(
            {
                "scaled_ms": weights[k],
                "per_unit_ms": weights[k] / scale[k],
                "relative_impact": abs(weights[k]) / np.abs(weights).sum(),
                "mean": mean[k],
                "scale": scale[k],
            },
            rel=1e-8,
        )
    assert table["intercept_ms"] == pytest.approx(y.mean())
    assert table["intercept_per_unit_ms"] == pytest.approx(y.mean() - weights @ (mean / scale), rel=1e-8)


def evaluate(text: str, values: dict[str, np.ndarray]) -> np.ndarray:
    """Evaluate a formula, reading nothing but its text."""
    intercept = re.match(rf"latency_ms = ({NUMBER}) ", text)
    assert intercept, text
    terms = re.findall(r"([+-]) ([\d.]+) × (\w+)", text)
    assert {name for _, _, name in terms} == set(values)
    rebuilt = " ".join([f"latency_ms = {intercept[1]}", *(f"{s} {n} × {name}" for s, n, name in terms)])
    assert rebuilt == text
    return float(intercept[1]) + sum(float(sign + number) * values[name] for sign, number, name in terms)


@pytest.mark.parametrize("per_context", [0.05, -0.05])
def test_the_formula_is_what_the_pipeline_predicts(
    make_rows: Callable[..., pd.DataFrame], make_pipeline: Callable[..., Pipeline], per_context: float
) -> None:
    rows = make_rows(
        range(20, 820, 50), per_prompt=-0.004, per_context=per_context, noise_ms=0.5, intercept_ms=50
    )
    fitted = fit(make_pipeline(), rows)
    text, table = formula(fitted), coefficient_table(fitted)["coefficients"]
    assert text is not None
    predicted = fitted.predict(rows)
    raw = {name: rows[name].to_numpy(dtype=float) for name in FEATURES}
    scaled = {f"{n}_scaled": (raw[n] - table[n]["mean"]) / table[n]["scale"] for n in FEATURES}
    np.testing.assert_allclose(evaluate(text["scaled"], scaled), predicted, atol=5e-4)
    np.testing.assert_allclose(evaluate(text["per_unit"], raw), predicted, atol=2e-3)


def test_a_constant_latency_has_no_impact(
    make_rows: Callable[..., pd.DataFrame], make_pipeline: Callable[..., Pipeline]
) -> None:
    table = coefficient_table(fit(make_pipeline(), make_rows([10, 50], per_context=0.0)))
    assert table["intercept_ms"] == pytest.approx(30.0)
    assert [entry["scaled_ms"] for entry in table["coefficients"].values()] == pytest.approx(
        [0, 0], abs=1e-12
    )


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("linear_model.LinearRegression", {}),
        ("linear_model.Ridge", {"fit_intercept": False}),
        ("linear_model.Lasso", {"alpha": 0.01}),
        ("linear_model.ElasticNet", {"alpha": 0.01}),
        ("linear_model.HuberRegressor", {"max_iter": 1000}),
        ("linear_model.BayesianRidge", {}),
        ("linear_model.SGDRegressor", {"random_state": 0}),
        ("linear_model.QuantileRegressor", {"alpha": 0.0}),
        ("linear_model.TweedieRegressor", {"power": 0}),  # the identity link
        ("svm.LinearSVR", {"random_state": 0}),
        ("cross_decomposition.PLSRegression", {"n_components": 1}),
    ],
)
def test_linear_regressors_are_their_formula(
    thesis_rows: pd.DataFrame,
    make_pipeline: Callable[..., Pipeline],
    target: str,
    parameters: dict[str, object],
) -> None:
    rows = thesis_rows.iloc[1:]
    with warnings.catch_warnings(action="ignore"):  # of convergence, which is not the point
        fitted = fit(make_pipeline(target, **parameters), rows)
    table = coefficient_table(fitted)
    if target.startswith("cross_decomposition") and table["coefficients"] is None:
        return  # it centres what it is given once more, so its numbers are not this formula
    per_unit = {name: entry["per_unit_ms"] for name, entry in table["coefficients"].items()}
    by_formula = table["intercept_per_unit_ms"] + sum(
        rows[name] * weight for name, weight in per_unit.items()
    )
    np.testing.assert_allclose(by_formula, fitted.predict(rows).reshape(-1), rtol=1e-9)


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("linear_model.PoissonRegressor", {}),  # has coef_, and a logarithm between
        ("linear_model.GammaRegressor", {}),
        ("linear_model.TweedieRegressor", {"power": 1.5}),
        ("svm.SVR", {"kernel": "linear"}),  # coef_ of another shape: either is right, as long as it is true
        ("svm.SVR", {}),
        ("ensemble.RandomForestRegressor", {"n_estimators": 3, "random_state": 0}),
        ("neighbors.KNeighborsRegressor", {}),
        ("dummy.DummyRegressor", {}),
    ],
)
def test_other_regressors_have_no_formula(
    thesis_rows: pd.DataFrame,
    make_pipeline: Callable[..., Pipeline],
    target: str,
    parameters: dict[str, object],
) -> None:
    fitted = fit(make_pipeline(target, **parameters), thesis_rows.iloc[1:])
    if parameters == {"kernel": "linear"}:
        assert coefficient_table(fitted)["coefficients"] is not None
        return
    assert set(coefficient_table(fitted).values()) == {None}
    assert formula(fitted) is None
