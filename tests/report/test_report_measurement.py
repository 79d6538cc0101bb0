"""What the report says of how the measuring went."""

import pytest
from report_frames import make_predictions, make_rows
from report_metrics import make_cell, make_metrics

from llmlat.report import error_tables, measurement
from llmlat.report.plots.over_time import over_time
from llmlat.report.wording import MISSING


@pytest.fixture
def metrics():
    rows = make_rows()
    return make_metrics(rows, make_predictions(rows))


def warm_up(metrics, **changes):
    (last,) = metrics["measurement"]["warmups"]
    metrics["measurement"]["warmups"] = [last | changes]
    return measurement.warm_up_words(metrics)


def test_a_warm_up_that_settled_says_when_and_how_far_off_it_began(metrics):
    assert measurement.warm_up_words(metrics) == (
        "The latency was warmed up until it had settled: 400 tokens in 12 s, of which the first 120 belong "
        "to the start, where a token took 2.5× as long as later. Rule: MSER-5."
    )


def test_a_warm_up_that_did_not_settle_a_fixed_one_and_none_are_told_apart(metrics):
    assert "had not settled" in warm_up(metrics, settled=False)
    assert "fixed length" in warm_up(metrics, settled=None)
    metrics["measurement"]["warmups"] = []
    assert "Nothing was generated to warm up" in measurement.warm_up_words(metrics)


def test_medians_that_stayed_wide_are_counted(metrics):
    assert measurement.repetition_words(metrics).endswith("Every median is known as well as was asked (2%).")
    metrics["measurement"]["wider_than_asked"] = [{}, {}]
    metrics["cells"] = [make_cell(repetitions=[3, 5])]
    assert measurement.repetition_words(metrics) == (
        "Everything was measured 3 to 5 times, in random order. 2 medians stayed less well known than was "
        "asked (2%)."
    )
    metrics["cells"] = [make_cell(repetitions=[1, 1])]
    assert measurement.repetition_words(metrics) == ""


def test_doubtful_rows_are_told_with_what_became_of_them(metrics):
    assert measurement.flag_words(metrics).startswith("3 rows are doubtful: 3 because the device held")
    assert "fitted and tested all the same" in measurement.flag_words(metrics)
    metrics["flags"] |= {"excluded": True}
    assert "left out" in measurement.flag_words(metrics)
    metrics["flags"] = {"n_flagged": 1, "by_reason": {"busy_cpu": 1}, "excluded": False}
    assert measurement.flag_words(metrics).startswith("1 row is doubtful: ")
    metrics["flags"] = {"n_flagged": 0, "by_reason": {}, "excluded": False}
    assert measurement.flag_words(metrics) == "Nothing speaks against any row."


def test_telemetry_is_told_with_its_cost(metrics):
    said = measurement.telemetry_words(metrics)
    assert "581 samples" in said
    assert "0.26" in said, "the share of the time, in percent"
    assert "11 µs" in said
    metrics["measurement"]["telemetry"] = None
    assert "not sampled" in measurement.telemetry_words(metrics)


def test_ways_of_generating_stand_side_by_side(metrics):
    assert measurement.cells(metrics) is None, "one alone is no comparison"
    metrics["cells"].insert(0, make_cell(batch_size=8, num_beams=4, temperature=0.7, top_k=50))
    table = measurement.cells(metrics)
    assert table is not None
    assert [row[0] for row in table.rows] == [
        "eager",
        "eager, batch of 8, 4 beams, temperature 0.7, top_k 50",
    ]
    assert "of the bandwidth" not in [column.header for column in table.columns], "nothing is known of it"
    assert "bandwidth" not in table.note


def test_models_set_side_by_side_are_named(metrics):
    metrics["cells"].append(make_cell(model="Qwen/Qwen3-0.6B", quantization="none"))
    table = measurement.cells(metrics)
    assert table is not None
    assert [row[0] for row in table.rows] == [
        "Mistral-7B-Instruct-v0.3, 8-bit weights, eager",
        "Qwen3-0.6B, unquantized, eager",
    ]


def test_the_share_of_the_bandwidth_is_told_where_it_is_known(metrics):
    assert measurement.bandwidth_words(metrics) == ""
    metrics["measurement"]["memory_bandwidth_bytes_per_s"] = 4.241e12
    assert measurement.bandwidth_words(metrics) == "", "the model's sizes are not known"
    metrics["cells"] = [
        make_cell(achieved_bandwidth_fraction=0.181),
        make_cell(batch_size=4, achieved_bandwidth_fraction=0.75),
    ]
    said = measurement.bandwidth_words(metrics).replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("A large copy moves 4.24 TB/s ")
    assert "at 18.1 % to 75.0 % of that" in said
    table = measurement.cells(metrics)
    assert table is not None
    assert [row[-1].replace("\N{NO-BREAK SPACE}", " ") for row in table.rows] == ["18.1 %", "75.0 %"]
    assert table.columns[-1].header == "of the bandwidth"


def test_capturing_and_compiling_are_told_with_their_seconds(metrics):
    assert measurement.preparation_words(metrics) == ""
    captured = {"engine": "cuda_graph", "rows": 1, "capacity": 1024, "compile_s": None, "capture_s": 0.5}
    metrics["measurement"]["preparations"] = [captured]
    assert measurement.preparation_words(metrics) == (
        "A decode step was captured 1 time in 0.50 s; no row holds any of that."
    )
    metrics["measurement"]["preparations"] = [captured, {**captured, "compile_s": 41.0, "capture_s": 0.7}]
    assert measurement.preparation_words(metrics) == (
        "A decode step was captured 2 times in 1.2 s, after compiling it for 41 s; no row holds any of that."
    )
    assert measurement.words(metrics)[0] == measurement.preparation_words(metrics)


def test_what_did_not_fit_is_listed_with_the_reason(metrics):
    assert measurement.not_measured(metrics) is None
    first = {
        "request_id": 3, "prompt_ids": ["long"], "engine": "eager", "batch_size": 256, "num_beams": 1,
        "prompt_tokens": 2048, "max_new_tokens": 4, "reason": "out_of_memory", "wanted_bytes": 2**30,
        "because_of": None,
    }  # fmt: skip
    larger = {**first, "reason": "larger_than_one_that_did_not_fit", "wanted_bytes": None, "because_of": 3}
    metrics["measurement"]["not_measured"] = [first, larger]
    table = measurement.not_measured(metrics)
    assert table is not None
    assert table.rows[0] == ("long", "eager, batch of 256", "2,048", "ran out of memory", "1.00 GiB")
    assert table.rows[1][3:] == ("larger than request 3, which ran out", MISSING)


def test_what_a_server_did_not_answer_is_listed_with_its_words(metrics):
    entry = {
        "request_id": 3, "prompt_ids": ["long"], "engine": "endpoint", "batch_size": 1, "num_beams": 1,
        "prompt_tokens": None, "max_new_tokens": 4, "reason": "not_answered", "wanted_bytes": None,
        "because_of": None, "why": "HTTP 400: too long",
    }  # fmt: skip
    metrics["measurement"]["not_measured"] = [entry]
    table = measurement.not_measured(metrics)
    assert table is not None
    assert table.rows[0] == ("long", "endpoint", MISSING, "not answered: HTTP 400: too long", MISSING)


def served(metrics, **changes):
    metrics["measurement"]["endpoint"] = {
        "base_url": "http://localhost:8000/v1", "api": "chat", "arrival": "one_at_a_time", "concurrency": 1,
        "rate_per_s": None, "taken_fields": {}, "prompt_tokens_from": "server", "failed_attempts": {},
        "unknown_columns": ["token_id", "device_latency_ms"], **changes,
    }  # fmt: skip
    return measurement.endpoint_words(metrics)


def test_how_a_server_was_asked_and_what_it_did_not_tell(metrics):
    assert measurement.endpoint_words(metrics) == ""
    told = served(metrics)
    assert told.startswith(
        "Tokens were timed as they arrived from http://localhost:8000/v1 (OpenAI's chat API), one"
    )
    assert told.endswith(
        "counted by the server. Not known of the engine, and empty: token_id and device_latency_ms."
    )
    assert "4 requests in flight" in served(metrics, arrival="closed_loop", concurrency=4)
    poisson = served(
        metrics, arrival="poisson", concurrency=9, rate_per_s=2.5, prompt_tokens_from="tokenizer"
    )
    assert "2.50 a second on average, at most 9 in flight" in poisson
    assert "counted by a tokenizer here" in poisson


def test_what_a_server_remembered_and_cut_short_is_told(metrics):
    told = served(metrics, requests_ended_early=1, cached_prompt_fraction=0.975)
    assert "1 request ended before the length that was asked for. The server had computed 97.5\xa0%" in told
    silent = served(metrics, requests_ended_early=0, cached_prompt_fraction=None)
    assert "ended before" not in silent
    assert "had computed" not in silent


def test_failed_attempts_are_counted_by_reason(metrics):
    assert measurement.attempt_words(metrics) == ""
    served(metrics, failed_attempts={"HTTP 429": 2, "HTTP 500": 1})
    assert measurement.attempt_words(metrics).startswith(
        "3 attempts of requests failed (2 with HTTP 429 and 1 with HTTP 500);"
    )


def test_the_measurement_is_drawn_over_the_state_of_the_machine():
    rows = make_rows()
    rows.loc[5, "flags"] = "throttled"
    plot = over_time(rows)
    assert plot.figure is not None
    assert [axes.get_title(loc="left") for axes in plot.figure.axes] == [
        "", "GPU clock, MHz", "GPU power, W", "GPU, °C",
    ]  # fmt: skip


def test_without_telemetry_only_the_steps_are_drawn():
    rows = make_rows().assign(sm_clock_mhz=None, gpu_power_w=None, gpu_temperature_c=None)
    plot = over_time(rows)
    assert plot.figure is not None
    assert len(plot.figure.axes) == 1


def test_errors_by_kind_of_token_are_multiples_of_that_kinds_floor(metrics):
    metrics["by_phase"]["prefill"] |= {"mae_over_floor": 4.0, "rmse_over_floor": None}
    table = error_tables.by_phase(metrics)
    row = next(row for row in table.rows if "prefill" in row[0])
    assert (row[3], row[5]) == ("4.0×", MISSING)
