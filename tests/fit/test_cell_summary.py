"""What each way of generating costs."""

import pandas as pd
import pytest

from llmlat.fit.cells import bandwidth_fraction, cell_summary

# 10 ms for the weights, and 1 ms for every 100 tokens attended to.
MEASURED = {
    "memory_bandwidth_bytes_per_s": 1e12,
    "model": {"weight_bytes": 10**10, "kv_bytes_per_token": 10**7, "sliding_window": None},
}


def test_each_cell_is_summed_up_with_its_own_settings(make_rows):
    single = make_rows([10, 50], tokens=5, repetitions=2, per_context=0.0, intercept_ms=20.0, prefill_ms=5.0)
    batch = single.assign(
        batch_size=4, request_id=single["request_id"] + 100, token_latency_ms=single["token_latency_ms"] * 2
    )
    first, second = cell_summary(pd.concat([single, batch], ignore_index=True))
    assert (first["engine"], first["batch_size"], first["num_beams"], first["top_k"]) == ("eager", 1, 1, None)
    assert (first["n_requests"], first["n_steps"], first["repetitions"]) == (4, 20, [2, 2])
    assert first["prefill_median_ms"] == pytest.approx(25.0)
    assert first["decode_median_ms"] == pytest.approx(20.0)
    assert first["tokens_per_s"] == pytest.approx(50.0)
    assert second["batch_size"] == 4
    assert second["decode_median_ms"] == pytest.approx(40.0)
    assert second["tokens_per_s"] == pytest.approx(100.0)


def test_models_set_side_by_side_are_cells_of_their_own(make_rows):
    rows = make_rows([10, 50], tokens=5, per_context=0.0, intercept_ms=20.0)
    other = rows.assign(
        quantization="int8",
        request_id=rows["request_id"] + 100,
        token_latency_ms=rows["token_latency_ms"] * 3,
    )
    cells = cell_summary(pd.concat([rows, other], ignore_index=True))
    medians = {(cell["model"], cell["quantization"]): cell["decode_median_ms"] for cell in cells}
    assert medians == {("tiny", "none"): 20.0, ("tiny", "int8"): 60.0}


def test_a_cell_that_only_prefills_has_no_decode_figures(make_rows):
    (cell,) = cell_summary(make_rows([10, 20], tokens=1))
    assert cell["decode_median_ms"] is None
    assert cell["tokens_per_s"] is None
    assert cell["prefill_median_ms"] is not None


def test_the_share_of_the_bandwidth_is_that_of_weights_and_context(make_rows):
    rows = make_rows([100, 300], tokens=3, per_context=0.0, intercept_ms=20.0)
    fractions = bandwidth_fraction(rows, MEASURED)
    assert fractions.to_numpy() == pytest.approx((10 + rows["context_length"] / 100).to_numpy() / 20)
    (cell,) = cell_summary(rows, MEASURED)
    # The median of contexts 101, 102, 301 and 302: the prefill steps are not among them.
    assert cell["achieved_bandwidth_fraction"] == pytest.approx((10 + 2.015) / 20)


def test_the_share_of_the_bandwidth_counts_all_sequences_and_no_more_than_a_window(make_rows):
    rows = make_rows([100], tokens=2, per_context=0.0, intercept_ms=20.0)
    batch = rows.assign(batch_size=4, num_beams=2, batch_context_tokens=8 * rows["context_length"])
    assert bandwidth_fraction(batch, MEASURED).iloc[1] == pytest.approx((10 + 8.08) / 20)
    windowed = {**MEASURED, "model": {**MEASURED["model"], "sliding_window": 50}}
    assert bandwidth_fraction(batch, windowed).iloc[1] == pytest.approx((10 + 4) / 20)


@pytest.mark.parametrize(
    "measurement",
    [
        None,
        {},
        {**MEASURED, "memory_bandwidth_bytes_per_s": None},
        {**MEASURED, "model": None},
        {**MEASURED, "model": {"weight_bytes": 10**10, "kv_bytes_per_token": None}},
    ],
)
def test_without_bandwidth_or_sizes_the_share_is_not_known(make_rows, measurement):
    (cell,) = cell_summary(make_rows([10], tokens=3), measurement)
    assert cell["achieved_bandwidth_fraction"] is None
