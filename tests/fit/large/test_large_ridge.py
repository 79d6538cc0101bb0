from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from large_rows import Opened, noisy_rows
from sklearn.linear_model import Lasso, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from llmlat.fit.large.moments import sums
from llmlat.fit.large.ridge import fit_ridge, is_ridge
from llmlat.fit.large.summary import summarise

AddColumns = Callable[[pd.DataFrame], pd.DataFrame]


def ridge(**parameters: object) -> Pipeline:
    return Pipeline([("scaled", StandardScaler()), ("regressor", Ridge(**parameters))])


def collinear(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["prompt_tokens", "token_index"]].assign(context=rows["context_length"])


def on_a_clock(rows: pd.DataFrame) -> pd.DataFrame:
    # A span of minutes: scikit-learn takes a column of nanoseconds that spans less for a constant.
    clock = rows["completed_at_ns"] + 10**9 * np.arange(len(rows))
    return rows[["prompt_tokens", "batch_size"]].assign(clock=clock)


def with_a_constant(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["prompt_tokens"]].assign(constant=0.1, zero=0)


def on_one_clock_tick(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["prompt_tokens"]].assign(clock=1_790_000_000_000_000_000 + 256 * (np.arange(len(rows)) % 2))


COLUMNS = (collinear, on_a_clock, with_a_constant, on_one_clock_tick)


@pytest.mark.parametrize(
    ("columns", "parameters"),
    [
        *[(columns, {"alpha": 1.0}) for columns in COLUMNS],
        *[(columns, {"alpha": 250.0}) for columns in COLUMNS],
        (collinear, {"alpha": 3.0, "fit_intercept": False}),
    ],
)
def test_ridge_is_the_one_that_scikit_learn_fits_in_memory(
    opened: Opened, columns: AddColumns, parameters: dict[str, object]
) -> None:
    rows = noisy_rows()
    features = columns(rows)
    rows = features.assign(**{name: rows[name] for name in rows if name not in features})
    counted = rows[~rows["is_warmup"]]
    expected = ridge(**parameters).fit(counted[list(features)], counted["token_latency_ms"].to_numpy())
    with opened(rows, list(features)) as stored:
        found = fit_ridge(
            ridge(**parameters),
            sums(stored, summarise(stored)).moments(),
            stored.first(50),
        )
    scaler, fitted = found
    assert list(found.feature_names_in_) == list(features)
    assert scaler.n_samples_seen_ == len(counted)
    np.testing.assert_allclose(scaler.mean_, expected[0].mean_, rtol=1e-14)
    np.testing.assert_allclose(scaler.scale_, expected[0].scale_, rtol=1e-8)
    np.testing.assert_allclose(fitted.coef_, expected[1].coef_, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(
        found.predict(counted[list(features)]), expected.predict(counted[list(features)]), rtol=1e-9
    )


def test_without_a_penalty_collinear_columns_share_as_in_the_smallest_solution(opened: Opened) -> None:
    rows = noisy_rows()
    rows["twice"] = 2 * rows["prompt_tokens"]
    with opened(rows, ["prompt_tokens", "twice"]) as stored:
        found = sums(stored, summarise(stored)).moments()
        coefficients = fit_ridge(ridge(alpha=0.0), found, stored.first(50))[-1].coef_
    assert coefficients[0] == pytest.approx(coefficients[1])


def test_which_pipelines_sums_decide() -> None:
    assert is_ridge(ridge(alpha=2.0))
    assert not is_ridge(ridge(positive=True))
    assert not is_ridge(Pipeline([("scaled", StandardScaler(with_mean=False)), ("regressor", Ridge())]))
    assert not is_ridge(Pipeline([("scaled", StandardScaler()), ("regressor", Lasso())]))
