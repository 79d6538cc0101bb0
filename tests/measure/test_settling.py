"""When a latency has settled: slow starts are found, spikes and first visits are none, drift is told."""

import numpy as np
import pandas as pd
import pytest

from llmlat.measure.protocol.settling import judge, truncation_point
from llmlat.steps import one_row_a_step

STEP_MS, PASS = 20.0, 32


def passes(factor, n_passes=12, noise=0.02, spikes=0.01, seed=0, growth=0.0):
    """Return the steps of passes whose latency is a function of how many steps there were before."""
    generator = np.random.default_rng(seed)
    step = np.arange(n_passes * PASS)
    token_index = step % PASS
    latency = STEP_MS * np.array([factor(i) for i in step]) * (1 + growth * token_index)
    latency *= np.exp(generator.normal(0, noise, len(step)))
    latency = np.where(generator.random(len(step)) < spikes, 10 * latency, latency)
    return pd.DataFrame(
        {
            "token_index": token_index,
            "phase": np.where(token_index == 0, "prefill", "decode"),
            "first_visit": step < PASS,
            "token_latency_ms": latency,
            "completed_at_ns": np.cumsum(latency * 1e6).astype("int64"),
        }
    )


def flat(_):
    return 1.0


@pytest.mark.parametrize("noise", [0.005, 0.02])
@pytest.mark.parametrize("end", [50, 100, 170])
def test_the_end_of_a_slow_start_is_found_within_a_few_steps(end, noise):
    def factor(i):
        return 2.5 if i < end else 1.0

    settled = [judge(passes(factor, noise=noise, seed=seed), floor_s=2) for seed in range(20)]
    found = [s for s in settled if s is not None]
    # One that is not found yet is found after a pass more.
    assert len(found) >= 17
    off_by = np.array([s.from_step - end for s in found])
    assert np.median(np.abs(off_by)) <= 6
    assert off_by.min() >= -5, "nothing of the slow start stays but what a batch's median hides"
    assert np.median([s.start_ratio for s in found]) == pytest.approx(2.5, rel=0.05)


def test_without_noise_it_is_found_to_the_batch():
    for end in range(PASS + 6, 160, 7):
        settled = judge(passes(lambda i, end=end: 2.5 if i < end else 1.0, noise=0, spikes=0), floor_s=2)
        assert abs(settled.from_step - end) <= 6


def test_a_decay_is_cut_where_it_is_lost_in_the_noise():
    settled = judge(passes(lambda i: 1 + 1.5 * np.exp(-i / 60), n_passes=25, spikes=0), floor_s=2)
    # By then, less is left than the noise of a step, and more than none.
    assert 60 * np.log(1.5 / 0.1) < settled.from_step < 60 * np.log(1.5 / 0.0005)


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.1])
def test_what_is_flat_is_settled_from_the_second_pass(noise):
    settled = [judge(passes(flat, noise=noise, seed=seed), floor_s=1) for seed in range(10)]
    found = [s for s in settled if s is not None]
    assert len(found) >= 8
    assert np.median([s.from_step for s in found]) <= 2 * PASS
    assert np.median([s.start_ratio for s in found]) == pytest.approx(1, abs=0.1)


def test_spikes_do_not_postpone_it():
    settled = [judge(passes(flat, spikes=0.02, seed=seed), floor_s=2) is not None for seed in range(20)]
    assert sum(settled) >= 18


@pytest.mark.parametrize("n_passes", [5, 10, 20, 40])
def test_drift_is_not_settled(n_passes):
    assert judge(passes(lambda i: 1 + 0.002 * i, n_passes), floor_s=2) is None


def test_a_latency_that_grows_with_the_context_is_no_drift():
    settled = judge(passes(flat, growth=0.05), floor_s=2)
    assert settled is not None
    assert settled.from_step <= 2 * PASS


def test_first_visits_are_not_taken_for_a_slow_start():
    settled = judge(passes(lambda i: 2.6 if i < PASS else 1.0), floor_s=2)
    assert settled.start_ratio == pytest.approx(1, abs=0.05)
    assert PASS <= settled.from_step <= 2 * PASS


def test_the_floor_is_how_long_it_has_been_settled():
    steps = passes(lambda i: 2.5 if i < 100 else 1.0, spikes=0)
    after = steps["completed_at_ns"].iloc[-1] / 1e9 - steps["completed_at_ns"].iloc[100] / 1e9
    assert judge(steps, floor_s=after - 0.3) is not None
    assert judge(steps, floor_s=after + 0.3) is None


@pytest.mark.parametrize("n_passes", [1, 2, 3])
def test_fewer_than_three_passes_cannot_be_judged(n_passes):
    assert judge(passes(flat, n_passes), floor_s=0) is None


def test_where_nothing_is_decoded_prefills_are_judged():
    steps = passes(lambda i: 2.5 if i < 50 else 1.0, n_passes=8)
    prefills = steps.assign(token_index=0, phase="prefill", first_visit=steps.index == 0)
    assert abs(judge(prefills, floor_s=1).from_step - 50) <= 6


def test_the_sequences_of_a_batch_share_a_step():
    steps = passes(flat, 4).assign(session_id=0, request_id=-1, context_length=10)
    rows = pd.concat([steps, steps], ignore_index=True)
    assert len(one_row_a_step(rows)) == len(steps)


@pytest.mark.parametrize(("series", "cut"), [([9, 9, 9] + [1, 2] * 20, 3), ([1, 2] * 20, 0), ([5.0] * 9, 0)])
def test_the_truncation_point(series, cut):
    assert truncation_point(np.array(series, dtype=float)) == cut


def test_the_truncation_point_is_that_of_the_definition():
    series = np.random.default_rng(3).normal(1, 0.1, 60) + 2 * np.exp(-np.arange(60) / 5)
    by_definition = [
        ((series[d:] - series[d:].mean()) ** 2).sum() / (len(series) - d) ** 2 for d in range(len(series) - 4)
    ]
    assert truncation_point(series) == int(np.argmin(by_definition))
