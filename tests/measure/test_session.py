"""A session: what it measures, what it says of itself, and what a second run does not do again."""

import gc
import logging
from importlib.metadata import version

import pandas as pd
import pytest
from failing_engines import failing

from llmlat.errors import ConfigError
from llmlat.measure import generators as generators_module
from llmlat.measure.engines.cuda_graph import CudaGraphEngine


def test_a_session_measures_everything_once(run):
    seen = []
    dataset = run("collect.repetitions=2", on_request=lambda request, rows: seen.append((request, rows)))
    rows = dataset.read()
    counted = rows[~rows["is_warmup"]]
    assert dataset.is_complete
    assert len(counted) == 2 * 5 * 4
    assert rows["is_warmup"].sum() == 3
    assert (rows.loc[rows["is_warmup"], "request_id"] == -1).all()
    assert rows["is_warmup"].iloc[:3].all()
    assert counted.groupby("request_id").size().tolist() == [4] * 10
    assert counted.groupby("request_id")["session_request"].first().tolist() == list(range(10))
    assert counted.groupby("request_id")["repetition"].first().tolist() == [0] * 5 + [1] * 5
    assert [request.request_id for request, _ in seen] == list(range(10))
    assert (
        pd.concat([r for _, r in seen])["token_latency_ms"].tolist() == counted["token_latency_ms"].tolist()
    )


def test_requests_do_not_overlap_in_time(run):
    rows = run().read()
    started = rows["completed_at_ns"] - (rows["token_latency_ms"] * 1e6).round().astype("int64")
    assert (started.to_numpy()[1:] >= rows["completed_at_ns"].to_numpy()[:-1] - 1).all()


def test_a_collection_between_requests_looks_only_at_what_is_new(run):
    """Over all of torch and transformers it would take a quarter of a second a request."""
    frozen = []
    run(on_request=lambda *_: frozen.append(gc.get_freeze_count()))
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0
    with pytest.raises(ZeroDivisionError):
        run(*failing("Broken"))
    assert gc.get_freeze_count() == 0
    assert gc.isenabled()


def test_provenance_says_what_ran(run):
    provenance = run().provenance
    (session,) = provenance["sessions"]
    assert session["config"] == {"seed": 42}
    assert session["versions"]["torch"] == version("torch")
    assert session["clock"]["name"] == "perf_counter"
    assert {"started_at", "git", "os", "memory_bytes", "gpu"} <= session.keys()
    assert 0 < session["model"]["kv_bytes_per_token"] < session["model"]["weight_bytes"]
    assert session["memory_bandwidth_bytes_per_s"] is None, "there is no GPU"
    assert provenance["identity"]["hardware"]["device"] == "cpu"
    assert provenance["n_requests"] == 5


def test_the_same_key_is_not_measured_again(run, monkeypatch, caplog):
    before = run().read()
    monkeypatch.setattr(generators_module, "load_model", lambda *_: pytest.fail("it loaded a model"))
    with caplog.at_level(logging.INFO):
        again = run(on_request=lambda *_: pytest.fail("it measured"))
    pd.testing.assert_frame_equal(again.read(), before)
    assert len(again.provenance["sessions"]) == 1
    assert "Already measured" in caplog.text
    with pytest.raises(pytest.fail.Exception, match="loaded a model"):
        run("seed=1")


def test_what_is_said_before_measuring(run, caplog):
    with caplog.at_level(logging.INFO):
        run()
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Measuring")]
    for word in (
        "20 tokens",
        "5 requests",
        "mistral-mini",
        "random weights",
        "quantization none",
        "eager",
        "roughly",
    ):
        assert word in line


def test_a_deleted_file_alone_is_measured_again(run):
    dataset = run()
    (dataset.rows_dir / "request-000002.parquet").unlink()
    seen = []
    rows = run(on_request=lambda request, _: seen.append(request.request_id)).read()
    assert seen == [2]
    counted = rows[~rows["is_warmup"]]
    assert counted.groupby("request_id").size().tolist() == [4] * 5
    assert (counted.loc[counted["request_id"] == 2, "session_id"] == 1).all()
    assert (counted.loc[counted["request_id"] == 2, "session_request"] == 0).all()
    assert rows["is_warmup"].sum() == 6


def test_stopping_at_the_end_of_sequence(run, monkeypatch):
    everything = run("prompt_set.max_new_tokens=8").read()
    eos = everything.loc[(everything["request_id"] == 0) & (everything["token_index"] == 3), "token_id"].iloc[
        0
    ]
    expected = {}
    for request_id, rows in everything[~everything["is_warmup"]].groupby("request_id"):
        ids = rows["token_id"].tolist()
        expected[request_id] = ids[: ids.index(eos) + 1] if eos in ids else ids
    rows = run(
        "prompt_set.max_new_tokens=8", "decoding.stop_at_eos=true", f"model.architecture.eos_token_id={eos}"
    ).read()
    counted = rows[~rows["is_warmup"]]
    assert {i: r["token_id"].tolist() for i, r in counted.groupby("request_id")} == expected
    assert len(counted) < 5 * 8


def test_a_model_without_an_end_of_sequence(run):
    with pytest.raises(ConfigError, match=r"^decoding\.stop_at_eos=true: "):
        run("decoding.stop_at_eos=true", "model.architecture.eos_token_id=null")


def test_the_other_engine_makes_the_same_tokens(run):
    eager, no_cache = run().read(), run("engine=no_cache").read()
    assert eager["token_id"].tolist() == no_cache["token_id"].tolist()


def test_what_captured_steps_took_is_in_provenance_and_in_no_row(run, uncaptured, monkeypatch):
    monkeypatch.setattr(CudaGraphEngine, "check", lambda *_: None)
    dataset = run("collect.interleave.engine=[eager,cuda_graph]", "collect.repetitions=2")
    (session,) = dataset.provenance["sessions"]
    (captured,) = session["preparations"]
    assert (captured["engine"], captured["rows"], captured["capacity"]) == ("cuda_graph", 1, 1024)
    rows = dataset.read()
    tokens = rows[~rows["is_warmup"]].groupby("engine")["token_id"]
    eager, replayed = (tokens.get_group(engine).tolist() for engine in ("eager", "cuda_graph"))
    assert sorted(eager) == sorted(replayed)
    assert run().provenance["sessions"][0]["preparations"] == []
