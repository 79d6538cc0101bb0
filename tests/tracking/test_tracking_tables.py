import math

import numpy as np
import pandas as pd
from tracked_runs import COEFFICIENT, METRICS, TOKENS, make_rows

from llmlat.tracking.tables import (
    cap_rows,
    coefficient_table,
    error_table,
    frame_table,
    request_scalars,
    scalars,
)


def test_nested_numbers_and_words_are_flattened():
    flat = scalars({"by_phase": {"decode": {"mae_ms": np.float64(1.5)}}, "model": "m", "stand_in": True})

    assert flat == {"by_phase/decode/mae_ms": 1.5, "model": "m", "stand_in": True}
    assert type(flat["by_phase/decode/mae_ms"]) is float


def test_what_json_has_no_number_for_is_left_out():
    assert scalars({"a": math.nan, "b": math.inf, "c": None, "notices": ["x"], "d": {}}) == {}


def test_a_request_is_summed_up_in_a_few_numbers():
    assert request_scalars(make_rows(1)) == {
        "request/index": 0,
        "request/prompt_tokens": 8,
        "request/output_tokens": 10,
        "request/ttft_ms": 30.0,
        "request/median_itl_ms": 15.0,
        "request/max_itl_ms": 19.0,
    }


def test_a_request_of_one_token_has_no_inter_token_latency():
    assert "request/median_itl_ms" not in request_scalars(make_rows(1).head(1))


def test_a_coefficient_is_a_row():
    table = coefficient_table(METRICS)

    assert table is not None
    assert table.rows == [["context_length", *COEFFICIENT.values()]]


def test_a_regressor_without_coefficients_has_no_table_of_them():
    assert coefficient_table({**METRICS, "coefficients": None}) is None


def test_the_fit_stands_above_its_baselines():
    table = error_table(METRICS)

    assert table.columns[:4] == ["predictor", "n", "mae_ms", "mae_over_floor"]
    assert [row[:4] for row in table.rows] == [["fit", 4, 1.5, 3.0], ["mean", 4, 9.0, 3.0]]


def test_a_missing_value_is_none_and_integers_stay_exact():
    table = frame_table(make_rows(1).head(1)[["device_latency_ms", "completed_at_ns"]])

    assert table.rows == [[None, 1_795_332_393_296_940_600]]


def test_few_rows_are_all_kept():
    rows = make_rows(4)

    assert cap_rows(rows, len(rows)) is rows


def test_whole_requests_are_kept_evenly_spaced():
    kept = cap_rows(make_rows(20), 75)

    assert kept["request_id"].unique().tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert (kept.groupby("request_id").size() == TOKENS).all()


def test_a_request_longer_than_the_limit_keeps_evenly_spaced_rows():
    assert cap_rows(make_rows(1), 4)["token_index"].tolist() == [0, 3, 6, 9]


def test_no_rows_at_all_can_be_asked_for():
    assert len(cap_rows(make_rows(2), 0)) == 0


def test_a_frame_without_requests_keeps_evenly_spaced_rows():
    assert cap_rows(pd.DataFrame({"x": range(5)}), 3)["x"].tolist() == [0, 2, 4]
