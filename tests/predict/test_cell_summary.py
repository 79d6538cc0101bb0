"""What each way of generating costs."""

import pandas as pd
import pytest

from llmlat.predict.cells import cell_summary


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


def test_a_cell_that_only_prefills_has_no_decode_figures(make_rows):
    (cell,) = cell_summary(make_rows([10, 20], tokens=1))
    assert cell["decode_median_ms"] is None
    assert cell["tokens_per_s"] is None
    assert cell["prefill_median_ms"] is not None
