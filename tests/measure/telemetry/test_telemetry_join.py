"""Samples onto rows: the last one strictly before the step, on a scripted clock."""

import numpy as np
import pandas as pd
import pyarrow as pa

from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines.fake import FakeEngine, ScriptedTimer
from llmlat.measure.frames import step_spans
from llmlat.measure.telemetry import SampledTelemetry
from llmlat.measure.telemetry.join import NAMES, empty_samples, join_samples
from llmlat.measure.telemetry.sampler import StateSampler
from llmlat.records import COLUMNS, SCHEMA, TELEMETRY


def test_a_step_begins_where_the_one_before_it_ended(steps):
    rows = steps(1_700_000_000_000.000_001, [20.000_001, 1.012_345, 0.1 + 0.2])
    start_ns, end_ns = step_spans(rows)
    assert start_ns[1:].tolist() == end_ns[:-1].tolist()
    assert start_ns[0] == round(1_700_000_000_000.000_001 * 1e6)
    latency_ns = np.arange(1_000_000, 1_010_000)
    times = {"completed_at_ns": 1_700_000_000_000_000_001 + latency_ns, "token_latency_ms": latency_ns / 1e6}
    assert set(step_spans(pd.DataFrame(times))[0]) == {1_700_000_000_000_000_001}


def test_each_row_has_the_last_sample_strictly_before_its_step(steps, samples_of):
    rows = steps(100, [10, 10, 10, 10])  # begin at 100, 110, 120, 130
    samples = samples_of([90, 105, 120, 129.999_999], gpu_power_w=[1, 2, 3, 4])
    joined = join_samples(rows, samples)
    # The sample at 105 was taken during the first step, that at 120 as the third began.
    assert joined["gpu_power_w"].tolist() == [1, 2, 2, 4]
    assert joined["telemetry_age_ms"].tolist() == [10, 5, 15, 0.000_001]


def test_rows_before_the_first_sample_are_empty(steps, samples_of):
    rows = steps(0, [10, 10])
    joined = join_samples(rows, samples_of([5], gpu_power_w=[7], throttle_reasons=[4]))
    assert joined["gpu_power_w"].tolist()[1] == 7
    assert joined["throttle_reasons"].tolist()[1] == 4
    assert joined[[*NAMES, "telemetry_age_ms"]].iloc[0].isna().all()


def test_no_samples_leave_all_empty(steps):
    joined = join_samples(steps(0, [10, 10]), empty_samples())
    assert joined[[*NAMES, "telemetry_age_ms"]].isna().all(axis=None)


def test_rows_of_one_step_share_its_sample(steps, samples_of):
    rows = steps(100, [10, 10, 10])
    batch = pd.concat([rows, rows], ignore_index=True)  # sequence after sequence, as the collector has it
    joined = join_samples(batch, samples_of([95, 115], cpu_utilization=[0.25, 0.75]))
    assert joined["cpu_utilization"].tolist() == [0.25, 0.25, 0.75] * 2


def test_the_index_of_the_rows_stays(steps, samples_of):
    rows = steps(100, [10, 10]).set_axis([7, 3])
    joined = join_samples(rows, samples_of([95, 105], cpu_utilization=[0.25, 0.75]))
    assert joined["cpu_utilization"].to_dict() == {7: 0.25, 3: 0.75}


def test_empty_cells_are_null_in_the_file_and_not_zero(token_rows, samples_of):
    rows = token_rows(0)
    at_ms = [rows["completed_at_ns"].iloc[1] / 1e6 + 2]  # during the third of four steps
    joined = join_samples(rows, samples_of(at_ms, throttle_reasons=[4], gpu_memory_used_bytes=[2**40 + 1]))
    table = pa.Table.from_pandas(joined[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    assert table["throttle_reasons"].to_pylist() == [None, None, None, 4]
    assert table["gpu_memory_used_bytes"].to_pylist()[-1] == 2**40 + 1
    for column in TELEMETRY:
        assert table[column.name].null_count == (3 if joined[column.name].notna().any() else 4)


def test_a_sample_taken_during_a_step_is_never_on_its_row(request_of, scripted_source):
    """On the collector's own clock: samples in the middle of every other step, numbered."""
    timer, source = ScriptedTimer(), scripted_source(gpu_power_w=0)
    collector = Collector(timer)
    sampler = StateSampler([source], 100, collector.epoch_offset_ns, clock_ns=lambda: timer.now_ns)
    telemetry = SampledTelemetry(sampler, min_clock=0.75, max_sm_clock_mhz=None)
    timer.advance(50)

    def step(prompt_tokens: int, token_index: int) -> float:
        timer.advance(3)
        if token_index % 2 == 0:
            source.values["gpu_power_w"] = token_index
            sampler.take()
        return 7.0

    rows = collector.measure(request_of(0, 10, 7), FakeEngine(timer, step), Greedy())
    assert rows["telemetry_age_ms"].isna().all()
    annotated = telemetry.annotate(rows)
    assert annotated.columns.tolist() == [column.name for column in COLUMNS]
    power = annotated["gpu_power_w"].tolist()
    assert np.isnan(power[0])  # no sample before the request
    assert power[1:] == [0, 0, 2, 2, 4, 4]
    assert annotated["telemetry_age_ms"].tolist()[1:] == [7, 17] * 3
    unchanged = [name for name in rows.columns if name not in {*NAMES, "telemetry_age_ms", "flags"}]
    pd.testing.assert_frame_equal(annotated[unchanged], rows[unchanged])
