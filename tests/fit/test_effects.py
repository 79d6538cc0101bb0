"""Slopes of a known truth, and intervals that hold it as often as they say."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from llmlat.fit.analysis.effects import decode_curvature, decode_slopes, steady_decode_rows

MakeRows = Callable[..., pd.DataFrame]
LENGTHS = np.linspace(12, 640, 15).astype(int)


def test_the_slopes_that_were_put_in_come_out(make_rows: MakeRows) -> None:
    rows = make_rows(LENGTHS, per_prompt=-0.02, per_context=0.05, prefill_ms=500.0, noise_ms=1e-6)
    slopes = decode_slopes(rows)
    assert slopes is not None
    assert slopes["context_length"].per_1k_tokens_ms == pytest.approx(50.0, abs=1e-3)
    assert slopes["prompt_tokens"].per_1k_tokens_ms == pytest.approx(-20.0, abs=1e-3)
    assert slopes["context_alone"].per_1k_tokens_ms == pytest.approx(30.0, abs=1.0)
    for slope in slopes.values():
        assert slope.low_ms <= slope.per_1k_tokens_ms <= slope.high_ms


def test_the_slope_is_least_squares(make_rows: MakeRows) -> None:
    rows = make_rows(LENGTHS, noise_ms=2.0)
    steady = steady_decode_rows(rows)
    expected = np.polyfit(steady["context_length"], steady["token_latency_ms"], 1)[0] * 1e3
    slopes = decode_slopes(rows)
    assert slopes is not None
    assert slopes["context_alone"].per_1k_tokens_ms == pytest.approx(expected)


def test_the_cost_of_a_first_visit_is_not_the_contexts(make_rows: MakeRows) -> None:
    rows = make_rows(np.linspace(400, 10, 15).astype(int), tokens=60, per_context=0.01, noise_ms=0.1)
    slowed = rows.assign(token_latency_ms=rows["token_latency_ms"] + 30.0 * rows["first_visit"])
    slopes = decode_slopes(slowed)
    assert 0.2 < rows["first_visit"].mean() < 0.8
    assert slopes is not None
    assert slopes["context_alone"].per_1k_tokens_ms == pytest.approx(10.0, abs=1.0)


def test_curvature_is_zero_on_a_line_and_found_on_a_parabola(make_rows: MakeRows) -> None:
    line = decode_curvature(make_rows(LENGTHS, per_context=0.05, noise_ms=0.5, seed=1))
    bent = decode_curvature(make_rows(LENGTHS, per_context_squared=2e-5, noise_ms=0.5))
    assert line is not None
    assert bent is not None
    assert line.low_ms < 0 < line.high_ms
    assert bent.low_ms > 0
    assert bent.per_1k_tokens_ms == pytest.approx(20.0, rel=0.2)  # 2e-5 per token² is 20 per (1,000 tokens)²


def test_curvature_of_contexts_whose_square_overflows_32_bits(make_rows: MakeRows) -> None:
    rows = make_rows(np.linspace(1_000, 120_000, 12).astype(int), per_context=0.001, per_context_squared=1e-9)
    bent = decode_curvature(rows)
    assert rows["context_length"].dtype == np.int32
    assert bent is not None
    assert bent.per_1k_tokens_ms == pytest.approx(1e-3, rel=1e-3)


def test_steady_rows_leave_out_warmup_prefill_and_the_first_request(make_rows: MakeRows) -> None:
    steady = steady_decode_rows(make_rows(LENGTHS, tokens=4, warmup=6))
    assert set(steady["phase"]) == {"decode"}
    assert set(steady["request_id"]) == set(range(1, 15))
    assert len(steady) == 14 * 3
    few = steady_decode_rows(make_rows(LENGTHS[:4], tokens=4))
    assert set(few["request_id"]) == {0, 1, 2, 3}, "with four requests, none can be spared"


@pytest.mark.parametrize(
    ("lengths", "tokens"),
    [
        ([10, 20, 30], 20),  # three requests
        (list(LENGTHS), 1),  # no decode row
        ([50] * 6, 2),  # one context
    ],
)
def test_too_little_to_tell(make_rows: MakeRows, lengths: list[int], tokens: int) -> None:
    rows = make_rows(lengths, tokens=tokens, noise_ms=1.0)
    assert decode_slopes(rows) is None
    assert decode_curvature(rows) is None


@pytest.mark.parametrize(
    ("lengths", "tokens"),
    [
        ([50] * 10, 20),  # prompts of one length
        (list(LENGTHS), 2),  # one decode row each: context is the prompt and one
    ],
)
def test_prompt_and_context_are_not_told_apart_where_they_move_together(
    make_rows: MakeRows, lengths: list[int], tokens: int
) -> None:
    slopes = decode_slopes(make_rows(lengths, tokens=tokens, noise_ms=1.0))
    assert slopes is not None
    assert set(slopes) == {"context_alone"}


def test_a_seed_gives_one_interval(make_rows: MakeRows) -> None:
    rows = make_rows(LENGTHS, noise_ms=2.0)
    assert decode_slopes(rows, seed=1) == decode_slopes(rows, seed=1) != decode_slopes(rows, seed=2)


def test_intervals_hold_the_truth_about_as_often_as_they_say(
    make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 data sets with a shift of its own in every request; rows drawn alone would cover far less."""
    monkeypatch.setattr("llmlat.fit.analysis.effects.N_RESAMPLES", 400)
    template = make_rows(LENGTHS, tokens=20, per_prompt=-0.005, per_context=0.02)
    generator = np.random.default_rng(0)
    truth = {"context_length": 20.0, "prompt_tokens": -5.0, "context_alone": 15.0}
    held = dict.fromkeys(truth, 0)
    bent = 0
    for _ in range(200):
        shift = generator.normal(0, 1.0, len(LENGTHS))[template["request_id"]]
        noise = generator.normal(0, 0.5, len(template))
        rows = template.assign(token_latency_ms=template["token_latency_ms"] + shift + noise)
        slopes, curvature = decode_slopes(rows), decode_curvature(rows)
        assert slopes is not None
        assert curvature is not None
        for name, value in truth.items():
            held[name] += slopes[name].low_ms <= value <= slopes[name].high_ms
        bent += curvature.low_ms <= 0 <= curvature.high_ms
    for name, times in {**held, "curvature": bent}.items():
        assert 0.90 <= times / 200 <= 0.99, f"{name}: {times / 200:.0%}"
