from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from large_rows import Opened, noisy_rows

from llmlat.errors import DatasetError
from llmlat.fit.large.moments import Moments, Sums, sums
from llmlat.fit.large.summary import summarise

CLOCK = ["prompt_tokens", "context_length", "completed_at_ns"]


def by_hand(rows: pd.DataFrame, columns: list[str], weights: np.ndarray | None = None) -> Moments:
    """Return the moments in extended precision."""
    values = rows[[*columns, "token_latency_ms"]].to_numpy(dtype=np.float64).astype(np.longdouble)
    w = np.ones(len(rows)) if weights is None else weights
    w = w.astype(np.longdouble)
    mean = (w[:, None] * values).sum(axis=0) / w.sum()
    about = values - mean
    square = np.array([[(w * a * b).sum() for a in about.T] for b in about.T], dtype=np.float64)
    held = mean.astype(np.float64)
    rest = (mean - held).astype(np.float64)[:-1]
    latency = (held[-1], square[:-1, :-1], square[:-1, -1], square[-1, -1])
    return Moments(len(rows), float(w.sum()), held[:-1], rest, *latency)


def assert_same(found: Moments, expected: Moments, rtol: float = 1e-13) -> None:
    for name in ("n", "weight", "mean", "latency_mean_ms", "latency_square"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=rtol, err_msg=name)
    np.testing.assert_allclose(found.mean + 0, expected.mean, rtol=0, atol=256)
    np.testing.assert_allclose(
        found.mean - expected.mean + found.mean_rest,
        expected.mean_rest,
        0,
        rtol * np.abs(expected.mean).max(),
    )
    size = np.sqrt(np.diag(expected.gram))
    np.testing.assert_allclose(
        found.gram / np.outer(size, size), expected.gram / np.outer(size, size), 0, rtol
    )
    cross = size * np.sqrt(expected.latency_square)
    np.testing.assert_allclose(found.cross / cross, expected.cross / cross, 0, rtol)


def test_moments_are_those_of_extended_precision(opened: Opened) -> None:
    rows = noisy_rows()
    with opened(rows, CLOCK) as stored:
        found = sums(stored, summarise(stored)).moments()
    assert_same(found, by_hand(rows[~rows["is_warmup"]], CLOCK))


def test_weighted_moments(opened: Opened) -> None:
    rows = noisy_rows()
    with opened(rows, CLOCK) as stored:
        found = sums(stored, summarise(stored), weight="pow(token_latency_ms, -2)").moments()
    counted = rows[~rows["is_warmup"]]
    assert_same(found, by_hand(counted, CLOCK, counted["token_latency_ms"].to_numpy() ** -2))


def test_moments_of_some_rows_and_of_none(opened: Opened) -> None:
    rows = noisy_rows()
    with opened(rows, CLOCK) as stored:
        near = summarise(stored)
        found = sums(stored, near, where="context_length > 2000").moments()
        nothing = sums(stored, near, where="context_length < 0").moments()
    counted = rows[~rows["is_warmup"]]
    assert_same(found, by_hand(counted[counted["context_length"] > 2000], CLOCK))
    assert (nothing.n, nothing.weight, nothing.gram.any()) == (0, 0.0, False)


def test_a_far_centre_costs_no_exactness_that_matters(opened: Opened) -> None:
    rows = noisy_rows()
    with opened(rows, CLOCK) as stored:
        near = summarise(stored)
        far = replace(near, mean=near.mean + 5 * (near.high - near.low), latency_mean_ms=100.0)
        assert_same(sums(stored, far).moments(), sums(stored, near).moments(), rtol=1e-11)


def test_neither_order_nor_threads_show(opened: Opened) -> None:
    rows = noisy_rows(200)
    with opened(rows, CLOCK, n_files=4, threads=2) as stored:
        found = sums(stored, summarise(stored)).moments()
    with opened(rows.sample(frac=1, random_state=0), CLOCK, n_files=4, threads=1) as stored:
        assert_same(sums(stored, summarise(stored)).moments(), found, rtol=1e-14)


def test_a_derived_column_is_a_column(opened: Opened) -> None:
    rows = noisy_rows()
    derived = rows.assign(work=1.0 * rows["batch_size"] * rows["context_length"])
    with opened(rows, ["prompt_tokens"], derived={"work": "batch_size * context_length"}) as stored:
        found = sums(stored, summarise(stored)).moments()
    assert_same(found, by_hand(derived[~derived["is_warmup"]], ["prompt_tokens", "work"]))


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("context_length", None, "context_length is not a number in 1 of"),
        ("context_length", np.inf, "context_length is not a number in 1 of"),
        ("token_latency_ms", np.nan, "token_latency_ms is not a number in 1 of"),
        ("token_latency_ms", 0.0, "token_latency_ms is not above 0 in 1 of"),
    ],
)
def test_what_cannot_be_fitted_is_counted_and_named(
    opened: Opened, column: str, value: float | None, says: str
) -> None:
    rows = noisy_rows().astype({column: "float64"})
    rows.loc[len(rows) - 1, column] = value
    with opened(rows) as stored, pytest.raises(DatasetError, match=says):
        summarise(stored)


def test_no_rows(opened: Opened) -> None:
    rows = noisy_rows()
    with opened(rows[rows["is_warmup"]]) as stored, pytest.raises(DatasetError, match="no rows are left"):
        summarise(stored)


def test_sums_add_up_wherever_they_were_taken(opened: Opened) -> None:
    rows = noisy_rows()
    counted = rows[~rows["is_warmup"]]
    with opened(rows, CLOCK) as stored:
        near = summarise(stored)
        some = sums(stored, near, "pow(token_latency_ms, -2)", where="context_length > 2000")
    rest = counted[counted["context_length"] <= 2000]
    values = rest[[*CLOCK, "token_latency_ms"]].to_numpy(dtype=np.float64)
    found = (some + Sums.of(values, values[:, -1] ** -2, some.centre)).moments()
    assert_same(found, by_hand(counted, CLOCK, counted["token_latency_ms"].to_numpy() ** -2))
