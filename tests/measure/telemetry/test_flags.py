"""Flags: each condition falls on exactly the steps that it overlaps."""

import numpy as np
import pandas as pd
import pynvml
import pytest

from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines.fake import FakeEngine, ScriptedTimer
from llmlat.measure.frames import step_spans
from llmlat.measure.telemetry import SampledTelemetry
from llmlat.measure.telemetry.flags import flags_of
from llmlat.measure.telemetry.sampler import StateSampler
from llmlat.records import FLAGS

POWER_CAP = pynvml.nvmlClocksEventReasonSwPowerCap


def flagged(rows, samples, slow_below_mhz=0.0):
    return flags_of(rows["flags"], *step_spans(rows), samples, slow_below_mhz).tolist()


def test_a_sample_speaks_for_the_time_since_the_one_before(steps, samples_of):
    rows = steps(100, [10] * 6)  # begin at 100, 110 ... 150
    samples = samples_of([95, 115, 130, 155, 170], throttle_reasons=[0, 0, POWER_CAP, 0, 0])
    # 115 to 130: the end of the second step, the third; the fourth begins as the sample is complete.
    assert flagged(rows, samples) == ["", "throttled", "throttled", "", "", ""]


def test_one_sample_flags_all_steps_since_the_one_before(steps, samples_of):
    rows = steps(100, [10] * 6)
    samples = samples_of([95, 195], throttle_reasons=[0, POWER_CAP])
    assert flagged(rows, samples) == ["throttled"] * 6


def test_the_first_sample_speaks_for_its_own_instant(steps, samples_of):
    rows = steps(100, [10] * 4)
    assert flagged(rows, samples_of([125], other_cpu_cores=[1])) == ["", "", "busy_cpu", ""]
    assert flagged(rows, samples_of([90, 200], other_cpu_cores=[1, 0])) == [""] * 4


def test_no_samples_flag_nothing(steps, samples_of):
    assert flagged(steps(100, [10, 10], flags="not_settled"), samples_of([])) == ["not_settled"] * 2


@pytest.mark.parametrize(
    ("name", "is_slowdown"),
    [
        ("None", False),
        ("GpuIdle", False),
        ("ApplicationsClocksSetting", False),
        ("SyncBoost", False),
        ("DisplayClockSetting", False),
        ("SwPowerCap", True),
        ("HwSlowdown", True),
        ("SwThermalSlowdown", True),
        ("HwThermalSlowdown", True),
        ("HwPowerBrakeSlowdown", True),
    ],
)
def test_which_reasons_are_slowdowns(name, is_slowdown, steps, samples_of):
    reason = getattr(pynvml, f"nvmlClocksEventReason{name}")
    beside = pynvml.nvmlClocksEventReasonGpuIdle
    samples = samples_of([95, 115], throttle_reasons=[0, reason | beside])
    assert flagged(steps(100, [10]), samples) == ["throttled" if is_slowdown else ""]


@pytest.mark.parametrize(
    ("column", "flag", "fine", "doubtful"),
    [
        ("foreign_processes", "foreign_process", 0, 1),
        ("other_cpu_cores", "busy_cpu", 0.5, 0.51),
        ("sm_clock_mhz", "slow_clock", 1485, 1484),
        ("throttle_reasons", "throttled", 0, 4),
    ],
)
def test_thresholds(column, flag, fine, doubtful, steps, samples_of):
    rows = steps(100, [10])
    for value, expected in ((None, ""), (fine, ""), (doubtful, flag)):
        samples = samples_of([95, 105], **{column: [None, value]})
        assert flagged(rows, samples, slow_below_mhz=0.75 * 1980) == [expected]


def test_an_idle_clock_is_not_slow(steps, samples_of):
    rows = steps(1000, [10, 10])
    at_ms = [900, 999, 1000.0, 1125, 1200]  # between requests; the last two too long after the last step
    assert flagged(rows, samples_of(at_ms, sm_clock_mhz=[345] * 5), slow_below_mhz=1485) == ["", ""]
    at_once_after = samples_of([999, 1021], sm_clock_mhz=[345, 345])
    assert flagged(rows, at_once_after, slow_below_mhz=1485) == ["slow_clock"] * 2


def test_flags_are_joined_in_the_order_of_the_glossary_and_kept(steps, samples_of):
    rows = steps(100, [10, 10], flags="not_settled")
    samples = samples_of(
        [95, 105, 125],
        throttle_reasons=[0, 4, 0],
        sm_clock_mhz=[100, 100, 1980],
        foreign_processes=[0, 2, 0],
        other_cpu_cores=[0, 1, 0],
    )
    of_the_machine = ["throttled", "slow_clock", "foreign_process", "busy_cpu"]
    assert list(FLAGS)[:5] == [*of_the_machine, "not_settled"]
    assert flagged(rows, samples, 1485) == [";".join([*of_the_machine, "not_settled"]), "not_settled"]
    again = rows.assign(flags=flagged(rows, samples, 1485))
    assert flagged(again, samples, 1485) == again["flags"].tolist()


def test_steps_of_a_batch_are_judged_alike(steps, samples_of):
    rows = steps(100, [10, 10, 10])
    batch = pd.concat([rows, rows], ignore_index=True)
    samples = samples_of([95, 112, 118, 140], sm_clock_mhz=[1980, 1980, 345, 1980])
    assert flagged(batch, samples, 1485) == ["", "slow_clock", ""] * 2


def test_sequences_that_end_early_hide_no_step(steps, samples_of):
    rows = steps(100, [500] * 4)
    ragged = pd.concat([rows, rows.iloc[:1]], ignore_index=True)
    samples = samples_of([95, 1800, 1900, 2200], sm_clock_mhz=[1980, 1980, 345, 1980])
    assert flagged(ragged, samples, 1485) == ["", "", "", "slow_clock", ""]


def test_against_the_definition_one_by_one(steps, samples_of):
    """The quick way says what a plain double loop over samples and steps says."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = steps(float(rng.integers(50)), rng.integers(1, 15, 12).tolist())
        at_ms = np.unique(rng.integers(0, 160, 10)).astype(float).tolist()
        busy = rng.integers(0, 2, len(at_ms)).tolist()
        start, end = (span / 1e6 for span in step_spans(rows))
        since = [at_ms[0], *at_ms[:-1]]
        expected = [
            any(
                cores
                and (max(since[k], start[i]) < min(at_ms[k], end[i]) or (k == 0 and start[i] < at < end[i]))
                for k, (at, cores) in enumerate(zip(at_ms, busy, strict=True))
            )
            for i in range(len(rows))
        ]
        found = flagged(rows, samples_of(at_ms, other_cpu_cores=busy))
        assert [text == "busy_cpu" for text in found] == expected


def test_injected_throttling_flags_exactly_its_rows(request_of, scripted_source):
    """On the collector's own clock: the GPU is throttled while tokens 3 to 5 are generated."""
    timer, source = ScriptedTimer(), scripted_source(throttle_reasons=0)
    collector = Collector(timer)
    sampler = StateSampler([source], 100, collector.epoch_offset_ns, clock_ns=lambda: timer.now_ns)
    telemetry = SampledTelemetry(sampler, min_clock=0.75, max_sm_clock_mhz=1980)
    sampler.take()

    def step(prompt_tokens: int, token_index: int) -> float:
        timer.advance(4)
        source.values["throttle_reasons"] = POWER_CAP if 3 <= token_index <= 5 else 0
        timer.advance(4)
        sampler.take()
        return 0.0

    engine = FakeEngine(timer, step)
    rows = telemetry.annotate(collector.measure(request_of(0, 10, 9), engine, Greedy()))
    assert rows.loc[rows["flags"] == "throttled", "token_index"].tolist() == [3, 4, 5]
    assert rows.loc[rows["flags"] == "", "token_index"].tolist() == [0, 1, 2, 6, 7, 8]
    # Each sample is complete as a step ends and the next begins: known only to the step after that.
    assert rows["throttle_reasons"].isna().tolist() == [True] + [False] * 8
    assert rows["throttle_reasons"].tolist()[1:] == [0, 0, 0, 0, 4, 4, 4, 0]


def test_the_last_steps_are_judged_by_a_sample_taken_after_them(request_of, scripted_source):
    timer, source = ScriptedTimer(), scripted_source(foreign_processes=0)
    collector = Collector(timer)
    sampler = StateSampler([source], 100, collector.epoch_offset_ns, clock_ns=lambda: timer.now_ns)
    telemetry = SampledTelemetry(sampler, min_clock=0.75, max_sm_clock_mhz=None)
    sampler.take()
    rows = collector.measure(request_of(0, 10, 3), FakeEngine(timer, lambda *_: 5.0), Greedy())
    source.values["foreign_processes"] = 1
    assert telemetry.annotate(rows)["flags"].tolist() == ["foreign_process"] * 3
    assert source.n_refreshed == 1
