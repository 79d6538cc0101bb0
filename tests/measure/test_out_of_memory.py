"""Out of memory is a result: recorded with what it wanted, not tried again larger, and the rest goes on."""

import json
import logging
import sys
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from failing_engines import failing, memory_left

from llmlat.errors import DatasetError, MeasurementError
from llmlat.measure.cells import Cell
from llmlat.measure.machine.device import is_out_of_memory
from llmlat.measure.protocol.memory import Misfits, memory_state, wanted_bytes

CPU = torch.device("cpu")


@pytest.fixture
def run(run):
    return partial(run, "collect.warmup=0", "collect.telemetry_interval_ms=0")


# --- what an allocator says ---------------------------------------------


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total ...", 20 * 2**20),
        ("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0", 3 * 2**29),
        ("CUDA out of memory. Tried to allocate 512 bytes.", 512),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes. Error", 2**30),
        ("Unable to allocate 8.00 GiB for an array with shape (1073741824,)", 2**33),
        ("std::bad_alloc", None),
        ("", None),
    ],
)
def test_what_was_wanted(said, wanted):
    assert wanted_bytes(RuntimeError(said)) == wanted


def test_torch_itself_says_what_it_wanted():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert wanted_bytes(caught.value) == 2**60


def test_the_memory_there_is():
    state = memory_state(CPU)
    assert 0 < state["memory_peak_bytes"] < state["memory_total_bytes"]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried"
            ),
            True,
        ),
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error, is_memory):
    assert is_out_of_memory(error) is is_memory


# --- what is larger ---------------------------------------------


@pytest.fixture
def misfit(request_of):
    """A request of 8 rows and 10 prompt tokens that broke off before its token 2."""
    request = replace(request_of(7, 10, 4), cell=Cell("eager", batch_size=4, num_beams=2))
    misfits = Misfits()
    misfits.add(request, 2, torch.OutOfMemoryError("Tried to allocate 20.00 MiB"), CPU)
    return misfits


@pytest.mark.parametrize(
    ("prompt_tokens", "max_new_tokens", "cell", "is_larger"),
    [
        (10, 4, Cell("eager", batch_size=4, num_beams=2), True),
        (10, 3, Cell("eager", batch_size=8), True),
        (10, 2, Cell("eager", batch_size=8), False),  # it ends before the token that did not fit
        (11, 2, Cell("eager", batch_size=8), True),
        (9, 400, Cell("eager", batch_size=8), False),  # its prefill is smaller
        (99, 99, Cell("eager", batch_size=7), False),
        (99, 99, Cell("no_cache", batch_size=8), False),
        (99, 99, Cell("eager", batch_size=8, temperature=1.0), True),
    ],
)
def test_what_need_not_be_tried(misfit, request_of, prompt_tokens, max_new_tokens, cell, is_larger):
    other = replace(request_of(9, prompt_tokens, max_new_tokens), cell=cell)
    found = misfit.larger(other)
    assert (found is not None) == is_larger
    if found is not None:
        assert found["reason"] == "larger_than_one_that_did_not_fit"
        assert (found["request_id"], found["because_of"]) == (9, 7)
        assert found["wanted_bytes"] is None


def test_what_did_not_fit_is_known_to_the_next_session(request_of):
    entry = Misfits().add(request_of(7, 10, 4), 0, MemoryError(), CPU)
    assert Misfits([entry]).larger(request_of(8, 10, 4))["because_of"] == 7
    chained = Misfits([entry]).larger(request_of(8, 10, 4))
    assert Misfits([chained]).larger(request_of(9, 10, 4)) is None, "only what was tried is evidence"


# --- in a session ---------------------------------------------


@pytest.mark.parametrize("name", ["DeviceOutOfMemory", "HostOutOfMemory"])
def test_a_request_that_does_not_fit_costs_only_itself(run, caplog, name):
    with caplog.at_level(logging.INFO):
        dataset = run(*failing(name, "+engine.at_request=2", "+engine.at_token=3"))
    assert dataset.is_complete
    assert dataset.completed_requests() == {0, 1, 3, 4}
    (entry,) = dataset.skipped()
    expected = {
        "request_id": 2, "prompt_ids": ["line-3"], "engine": "failing", "batch_size": 1, "num_beams": 1,
        "max_new_tokens": 4, "reason": "out_of_memory", "at_token": 3, "because_of": None, "session_id": 0,
        "wanted_bytes": 20 * 2**20 if name == "DeviceOutOfMemory" else 2**30,
    }  # fmt: skip
    assert {key: entry[key] for key in expected} == expected
    assert entry["memory_total_bytes"] > 0
    partial = pd.read_parquet(dataset.rows_dir / "_partial-000002.parquet")
    assert partial["token_index"].tolist() == [0, 1, 2]
    rows = dataset.read()
    assert rows.groupby("request_id").size().to_dict() == dict.fromkeys((0, 1, 3, 4), 4)
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Out of memory")]
    assert line.startswith("Out of memory: request 2 (line-3; engine failing, batch 1, beams 1, ")
    assert "at token 3; it wanted" in line
    assert dataset.provenance["sessions"][0]["skipped"] == 1


def test_larger_ones_are_skipped_and_smaller_ones_go_on(run, caplog):
    sizes = ("collect.interleave.batch_size=[1,2,16,8]", "+engine.fits_tokens=50")
    with caplog.at_level(logging.INFO):
        dataset = run(*failing("TooLarge", *sizes))
    assert dataset.is_complete
    skipped = dataset.skipped()
    tried = [entry for entry in skipped if entry["reason"] == "out_of_memory"]
    assert len(tried) < len(skipped), "the evidence of one is enough for another"
    known = {entry["request_id"]: entry for entry in tried}
    for entry in skipped:
        if entry["reason"] != "out_of_memory":
            cause = known[entry["because_of"]]
            assert entry["batch_size"] >= cause["batch_size"]
            assert entry["prompt_tokens"] >= cause["prompt_tokens"]
    # All of it, and nothing but, that is too large by the engine's own rule.
    assert {entry["batch_size"] for entry in skipped} == {16, 8}
    assert len(skipped) == 10
    assert set(dataset.read()["batch_size"]) == {1, 2}
    assert "10 requests were skipped" in caplog.text
    assert "as large or larger were not tried" in caplog.text


def test_a_second_run_tries_nothing_again_until_the_record_is_deleted(run, caplog):
    overrides = failing("DeviceOutOfMemory", "+engine.at_request=2", "+engine.at_token=3")
    before = run(*overrides).read()
    with caplog.at_level(logging.INFO):
        dataset = run(*overrides)
    assert "Already measured" in caplog.text
    pd.testing.assert_frame_equal(dataset.read(), before)
    (dataset.folder / "skipped" / "request-000002.json").unlink()
    assert not dataset.is_complete
    dataset = run(*overrides)  # the engine fails at its third request: now there is but one
    assert dataset.completed_requests() == {0, 1, 2, 3, 4}
    assert dataset.skipped() == []
    assert not list(dataset.rows_dir.glob("_partial*"))
    assert dataset.read().groupby("request_id")["session_id"].first().tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("warmup", ["0", "3", "auto"])
def test_where_nothing_fits(run, only_dataset, warmup):
    with pytest.raises(MeasurementError) as caught:
        run(*failing("NeverFits", f"collect.warmup={warmup}"))
    message = str(caught.value)
    assert message.startswith("out of memory in ")
    for words in ("nothing else fits", "0 of 5 requests are kept", "same command", "quantization=nf4"):
        assert words in message
    assert "\n" not in message
    dataset = only_dataset()
    assert not dataset.is_complete
    assert dataset.skipped() == [], "another run, with more memory free, tries again"


def test_a_warm_up_that_does_not_fit_takes_another_request(run, tmp_path):
    (tmp_path / "p.txt").write_text("The longest prompt of them all\nOne\nTwo words\n")
    overrides = ("+engine.at_request=0", "+engine.at_token=1", "collect.warmup=4")
    dataset = run(*failing("DeviceOutOfMemory", *overrides))
    assert [entry["request_id"] for entry in dataset.skipped()] == [0]
    rows = dataset.read()
    assert rows["is_warmup"].sum() == 4
    assert rows.loc[rows["is_warmup"], "prompt_id"].unique().tolist() == ["line-2"]
    assert dataset.completed_requests() == {1, 2}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_address_space_ends_for_real(run):
    """Logits of 8192 sequences take a gigabyte that the process may not have."""
    sizes = ("collect.interleave.batch_size=[1,8192]", "prompt_set.limit=2", "prompt_set.max_new_tokens=2")
    with memory_left(600 * 2**20):
        dataset = run(*sizes)
    assert {entry["batch_size"] for entry in dataset.skipped()} == {8192}
    assert dataset.skipped()[0]["reason"] == "out_of_memory"
    assert max(entry["wanted_bytes"] or 0 for entry in dataset.skipped()) > 2**20
    assert dataset.read()["batch_size"].eq(1).all()
    assert dataset.is_complete


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"request_id": "x"}'])
def test_a_damaged_record(complete_dataset, content):
    complete_dataset.skip({"request_id": 5})
    (path,) = (complete_dataset.folder / "skipped").iterdir()
    path.write_text(content)
    with pytest.raises(DatasetError) as caught:
        complete_dataset.skipped()
    assert str(caught.value).startswith(f"{path}: damaged")
    assert "delete it" in str(caught.value)


def test_a_record_is_json_that_anyone_reads(complete_dataset):
    complete_dataset.skip({"request_id": 5, "reason": "out_of_memory"})
    (path,) = (complete_dataset.folder / "skipped").iterdir()
    assert path.name == "request-000005.json"
    assert json.loads(path.read_text())["reason"] == "out_of_memory"
