"""Baselines of our own, on rows that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest

from llmlat.fit.regressors import ContextBinRegressor, LastTokenRegressor


def test_a_bin_predicts_the_mean_of_its_rows() -> None:
    X = pd.DataFrame({"prompt_tokens": np.ones(8), "context_length": [1.0, 2, 3, 4, 5, 6, 7, 8]})
    y = np.array([10.0, 11, 12, 100, 20, 21, 22, 23])
    bins = ContextBinRegressor("context_length", n_bins=2).fit(X, y)
    assert bins.edges_.tolist() == [5.0]
    assert bins.levels_ms_.tolist() == [33.25, 21.5]
    beyond = X.iloc[:3].assign(context_length=[-5.0, 4.9, 1e6])
    assert bins.predict(beyond).tolist() == [33.25, 33.25, 21.5]
    at_median = ContextBinRegressor("context_length", n_bins=2, criterion="mae").fit(X, y)
    assert at_median.levels_ms_.tolist() == [11.0, 21.0]


def test_few_contexts_are_few_bins() -> None:
    X = np.array([[1.0], [1.0], [1.0], [9.0]])
    bins = ContextBinRegressor(n_bins=10).fit(X, np.array([5.0, 6.0, 7.0, 50.0]))
    assert bins.predict(X).tolist() == [6.0, 6.0, 6.0, 50.0]
    one = ContextBinRegressor().fit(np.ones((3, 1)), np.array([1.0, 2.0, 3.0]))
    assert one.predict(np.array([[1.0], [7.0]])).tolist() == [2.0, 2.0]


def test_the_last_token_is_handed_on_and_the_first_has_a_median() -> None:
    X = pd.DataFrame(
        {"context_length": np.arange(6.0), "previous_token_latency_ms": [np.nan, 30, 8, np.nan, 40, 9]}
    )
    y = np.array([30.0, 8, 7, 40, 9, 8])
    last = LastTokenRegressor("previous_token_latency_ms").fit(X, y)
    assert last.predict(X).tolist() == [35.0, 30.0, 8.0, 35.0, 40.0, 9.0]
    decode = LastTokenRegressor("previous_token_latency_ms").fit(X[1:3], y[1:3])
    assert decode.first_ms_ == 7.5


def test_a_column_that_is_not_there_is_told() -> None:
    X = pd.DataFrame({"prompt_tokens": [1.0, 2.0]})
    with pytest.raises(ValueError, match="LastTokenRegressor reads the feature 'previous_token_latency_ms'"):
        LastTokenRegressor("previous_token_latency_ms").fit(X, [1.0, 2.0])


def test_without_a_bin_there_is_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="n_bins=0: use a whole number"):
        ContextBinRegressor(n_bins=0).fit([[1.0], [2.0]], [1.0, 2.0])
