"""Errors, baselines and the noise floor against numbers worked out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from llmlat.fit.evaluate import (
    baselines,
    by_phase,
    error_block,
    first_visits,
    latency_summary,
    previous_latency,
    worst_rows,
)

MakeRows = Callable[..., pd.DataFrame]
FEATURES = ["prompt_tokens", "context_length"]
NO_ROWS = {"n": 0, "mae_ms": None, "rmse_ms": None, "median_ae_ms": None, "r2": None, "mape": None}


def test_error_block_by_hand() -> None:
    block = error_block(np.array([10.0, 20.0, 40.0]), np.array([11.0, 18.0, 46.0]))
    assert block == {
        "n": 3,
        "mae_ms": pytest.approx(3.0),
        "rmse_ms": pytest.approx(math.sqrt(41 / 3)),
        "median_ae_ms": pytest.approx(2.0),
        "r2": pytest.approx(1 - 41 / (4200 / 9)),
        "mape": pytest.approx((0.1 + 0.1 + 0.15) / 3),
    }


def test_error_block_is_sklearns() -> None:
    generator = np.random.default_rng(1)
    measured, predicted = generator.uniform(5, 9, 200), generator.uniform(5, 9, 200)
    block = error_block(measured, predicted)
    assert block["mae_ms"] == sk.mean_absolute_error(measured, predicted)
    assert block["rmse_ms"] == pytest.approx(sk.mean_squared_error(measured, predicted) ** 0.5)
    assert block["median_ae_ms"] == sk.median_absolute_error(measured, predicted)
    assert block["r2"] == sk.r2_score(measured, predicted)
    assert block["mape"] == sk.mean_absolute_percentage_error(measured, predicted)


def test_error_block_without_rows() -> None:
    assert error_block(np.array([]), np.array([])) == NO_ROWS


@pytest.mark.parametrize("measured", [[5.0], [5.0, 5.0, 5.0]])
def test_error_block_has_no_r2_where_nothing_varies(measured: list[float]) -> None:
    block = error_block(np.array(measured), np.array(measured) + 1)
    assert block["r2"] is None
    assert (block["n"], block["mae_ms"], block["rmse_ms"], block["mape"]) == pytest.approx(
        (len(measured), 1.0, 1.0, 0.2)
    )


@pytest.fixture
def three_requests(make_rows: MakeRows) -> pd.DataFrame:
    """Return three requests of three tokens with latencies 100, 11, 12; 200, 21, 22; 300, 31, 32."""
    rows = make_rows([10, 20, 30], tokens=3)
    rows["token_latency_ms"] = [100.0, 11.0, 12.0, 200.0, 21.0, 22.0, 300.0, 31.0, 32.0]
    return rows


def test_previous_latency_stays_within_its_request_whatever_the_order(three_requests: pd.DataFrame) -> None:
    expected = [np.nan, 100.0, 11.0, np.nan, 200.0, 21.0, np.nan, 300.0, 31.0]
    np.testing.assert_array_equal(previous_latency(three_requests), expected)
    shuffled = three_requests.sample(frac=1, random_state=3)
    np.testing.assert_array_equal(previous_latency(shuffled).sort_index(), expected)


def test_previous_latency_does_not_reach_into_another_session(three_requests: pd.DataFrame) -> None:
    rows = three_requests.assign(session_id=[0, 0, 1, 0, 0, 0, 0, 0, 0])
    assert math.isnan(previous_latency(rows)[2])


def test_baselines_by_hand(three_requests: pd.DataFrame) -> None:
    test = three_requests.loc[[2, 3, 4]]  # after a training row; a token 0; after a test row
    train = three_requests.drop(index=[2, 3, 4])
    found = baselines(three_requests, train, test)
    mean, median = (100 + 11 + 22 + 300 + 31 + 32) / 6, (31 + 32) / 2
    for name, guess in (("mean", mean), ("median", median)):
        assert found[name]["mae_ms"] == pytest.approx(
            (abs(12 - guess) + abs(200 - guess) + abs(21 - guess)) / 3
        )
    # Token 0 has no token before it: the median prefill of the training rows, (100 + 300) / 2.
    assert found["last_token"]["mae_ms"] == pytest.approx((abs(12 - 11) + abs(200 - 200) + abs(21 - 200)) / 3)
    assert found["last_token"]["n"] == 3


def test_last_token_without_prefill_in_training_takes_the_median(three_requests: pd.DataFrame) -> None:
    test, train = three_requests.loc[[0, 3, 6]], three_requests.drop(index=[0, 3, 6])
    found = baselines(three_requests, train, test)["last_token"]
    guess = (21 + 22) / 2
    assert found["mae_ms"] == pytest.approx((100 + 200 + 300) / 3 - guess)


def test_baselines_of_no_test_rows(three_requests: pd.DataFrame) -> None:
    assert baselines(three_requests, three_requests, three_requests.iloc[:0])["last_token"] == NO_ROWS


def test_by_phase_parts_the_errors(three_requests: pd.DataFrame) -> None:
    off_by = np.where(three_requests["phase"] == "prefill", 50.0, 1.0)
    parted = by_phase(three_requests.assign(predicted_ms=three_requests["token_latency_ms"] + off_by))
    assert (parted["prefill"]["n"], parted["prefill"]["mae_ms"]) == (3, pytest.approx(50.0))
    assert (parted["decode"]["n"], parted["decode"]["mae_ms"]) == (6, pytest.approx(1.0))
    decode_only = three_requests[three_requests["phase"] == "decode"].assign(predicted_ms=1.0)
    assert by_phase(decode_only)["prefill"] == NO_ROWS


def test_worst_rows_by_hand(make_rows: MakeRows) -> None:
    rows = make_rows([10], tokens=12)
    off_by = np.array([1, 1, 1, 9, 1, 1, 1, 1, -5, 1, 1, 1.0])
    worst = worst_rows(rows.assign(predicted_ms=rows["token_latency_ms"] + off_by))
    total = 81 + 25 + 10
    assert worst["share_of_squared_error"] == {
        "1": pytest.approx(81 / total),
        "5": pytest.approx((81 + 25 + 3) / total),
        "10": pytest.approx((81 + 25 + 8) / total),
    }
    assert [row["token_index"] for row in worst["rows"]][:2] == [3, 8]
    assert worst["rows"][0]["predicted_ms"] == pytest.approx(worst["rows"][0]["token_latency_ms"] + 9)


def test_perfect_predictions_have_no_worst_rows(make_rows: MakeRows) -> None:
    rows = make_rows([10], tokens=3)
    worst = worst_rows(rows.assign(predicted_ms=rows["token_latency_ms"]))
    assert set(worst["share_of_squared_error"].values()) == {0.0}
    assert len(worst["rows"]) == 3


def test_latency_summary_by_hand(three_requests: pd.DataFrame) -> None:
    summary = latency_summary(three_requests)
    assert summary["prefill"] == {
        "n": 3,
        "median_ms": 200.0,
        "p5_ms": 110.0,
        "p95_ms": 290.0,
        "max_ms": 300.0,
    }
    assert summary["decode"]["n"] == 6
    nothing = latency_summary(three_requests.iloc[:0])
    assert nothing["decode"] == {"n": 0, "median_ms": None, "p5_ms": None, "p95_ms": None, "max_ms": None}


def test_first_visits_are_compared_at_equal_context(make_rows: MakeRows) -> None:
    rows = make_rows([10, 10, 10, 40], tokens=6, per_context=1.0, prefill_ms=500.0)
    new = rows["first_visit"] & (rows["context_length"] != 12)
    rows["token_latency_ms"] += 25.0 * new - 5.0 * (rows["first_visit"] & (rows["context_length"] == 12))
    found = first_visits(rows)
    # Decode steps at 11 to 15, first once and then twice; those at 41 to 45 are never seen again.
    assert (found["n_first"], found["n_later"], found["n_compared"]) == (10, 10, 5)
    assert found["median_cost_ms"] == pytest.approx(25.0)
    assert found["slower_share"] == pytest.approx(4 / 5)
    assert found["median_later_ms"] == pytest.approx(30.0 + 13)


def test_a_first_visit_is_compared_with_the_same_models_later_ones(make_rows: MakeRows) -> None:
    first = make_rows([10], tokens=6)
    slower = make_rows([10], tokens=6, intercept_ms=90.0).assign(quantization="int8", first_visit=False)
    assert first_visits(pd.concat([first, slower], ignore_index=True))["n_compared"] == 0


def test_first_visits_without_a_second(make_rows: MakeRows) -> None:
    found = first_visits(make_rows([10, 100], tokens=4))
    assert (found["n_first"], found["n_later"], found["n_compared"]) == (6, 0, 0)
    assert found["median_later_ms"] is found["median_cost_ms"] is found["slower_share"] is None
