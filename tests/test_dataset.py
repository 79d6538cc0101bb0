"""Datasets on disk: whole files or none, resumable, and refused in one line where they cannot be trusted."""

import errno
import itertools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmlat import dataset as dataset_module
from llmlat.dataset import Dataset, key_of, write_atomically, write_frame, write_json
from llmlat.errors import DatasetError
from llmlat.records import SCHEMA

IDENTITY = {"model": "tiny", "seed": 0, "nested": {"b": 1, "a": [1, 2]}}


@pytest.fixture
def dataset(complete_dataset):
    return complete_dataset


def request_file(dataset, request_id=0):
    return dataset.rows_dir / f"request-{request_id:06d}.parquet"


def refused(dataset, *words):
    """Assert that reading ends in one line that names the place and holds the words."""
    with pytest.raises(DatasetError) as caught:
        dataset.read()
    message = str(caught.value)
    assert "\n" not in message
    assert str(dataset.folder) in message
    for word in words:
        assert word in message
    return message


# --- keys ---------------------------------------------


def test_a_key_does_not_depend_on_the_order_of_fields():
    shuffled = {"nested": {"a": [1, 2], "b": 1}, "seed": 0, "model": "tiny"}
    assert key_of(shuffled) == key_of(IDENTITY)
    assert len(key_of(IDENTITY)) == 16


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"model": "tiny "}, {"nested": {"b": 1, "a": [2, 1]}}, {"x": None}]
)
def test_a_key_depends_on_every_value(change):
    assert key_of({**IDENTITY, **change}) != key_of(IDENTITY)


# --- writing and reading ---------------------------------------------


def test_what_is_written_is_read(tmp_path, token_rows):
    dataset = Dataset.create(tmp_path, IDENTITY, 2)
    assert dataset.folder == tmp_path / key_of(IDENTITY)
    assert dataset.add_session({"notices": ["one"]}) == 0
    dataset.append_warmup(0, token_rows(-1, 3))
    written = [token_rows(0, 4, latency_ms=5.123_456), token_rows(1, 2)]
    for request_id, rows in enumerate(written):
        assert not dataset.is_complete
        dataset.append_request(request_id, rows)
    assert dataset.is_complete
    assert dataset.completed_requests() == {0, 1}
    rows = dataset.read()
    assert rows.columns.tolist() == SCHEMA.names
    assert rows["is_warmup"].sum() == 3
    expected = pd.concat(written, ignore_index=True)
    counted = rows[~rows["is_warmup"]].reset_index(drop=True)
    for column in expected:
        assert counted[column].tolist() == expected[column].tolist() or counted[column].isna().all()


def test_rows_come_in_the_order_of_measuring(tmp_path, token_rows):
    dataset = Dataset.create(tmp_path, IDENTITY, 3)
    # Request 1 was measured by a later session than 2, whose monotonic clock began elsewhere.
    dataset.append_request(2, token_rows(2, 3, session_id=0))
    dataset.append_request(0, token_rows(0, 3, session_id=0))
    dataset.append_request(1, token_rows(1, 3, session_id=1))
    assert dataset.read()["request_id"].tolist() == [0, 0, 0, 2, 2, 2, 1, 1, 1]
    assert dataset.read()["token_index"].tolist() == [0, 1, 2] * 3


def test_files_are_of_the_schema_and_know_their_dataset(dataset):
    schema = pq.read_schema(request_file(dataset))
    assert [(f.name, f.type, f.nullable) for f in schema] == [(f.name, f.type, f.nullable) for f in SCHEMA]
    assert schema.metadata[b"llmlat.dataset_key"].decode() == dataset.key


def test_a_device_latency_that_was_not_taken_is_null(tmp_path, token_rows):
    dataset = Dataset.create(tmp_path, IDENTITY, 1)
    dataset.append_request(0, token_rows(0, 3, device_latency_ms=[1.5, np.nan, 2.5]))
    column = pq.read_table(request_file(dataset))["device_latency_ms"]
    assert column.to_pylist() == [1.5, None, 2.5]


def test_pandas_reads_the_folder_and_passes_over_what_is_not_complete(dataset, token_rows):
    dataset.keep_partial(7, token_rows(7, 2))
    (dataset.rows_dir / ".request-000009.parquet.123.tmp").write_bytes(b"half a fi")
    rows = pd.read_parquet(dataset.rows_dir)
    assert sorted(rows["request_id"].unique()) == [0, 1]
    assert len(rows) == len(dataset.read()) == 8


def test_partial_rows_are_kept_until_the_request_is_complete(dataset, token_rows):
    dataset.keep_partial(1, token_rows(1, 2))
    (partial,) = dataset.rows_dir.glob("_partial*")
    assert len(pq.read_table(partial)) == 2
    assert dataset.completed_requests() == {0, 1}
    dataset.append_request(1, token_rows(1, 4))
    assert not list(dataset.rows_dir.glob("_partial*"))
    assert len(dataset.read()) == 8


def test_a_request_measured_again_replaces_its_rows(dataset, token_rows):
    dataset.append_request(1, token_rows(1, 6, session_id=1))
    rows = dataset.read()
    assert (rows["request_id"] == 1).sum() == 6


def test_creating_a_dataset_again_keeps_it(tmp_path, token_rows):
    dataset = Dataset.create(tmp_path, IDENTITY, 2)
    dataset.add_session({"notices": ["first"]})
    dataset.append_request(0, token_rows(0))
    again = Dataset.create(tmp_path, IDENTITY, 2)
    assert again.provenance["sessions"] == [{"notices": ["first"]}]
    assert again.completed_requests() == {0}
    assert again.add_session({"notices": ["second"]}) == 1
    assert again.provenance["identity"] == IDENTITY
    assert again.provenance["n_requests"] == 2


# --- whole or not at all ---------------------------------------------


def killed_before_rename(monkeypatch):
    class Killed(BaseException):
        pass

    def replace(self, target):
        raise Killed

    monkeypatch.setattr(Path, "replace", replace)
    return Killed


def test_a_kill_before_the_rename_leaves_nothing_that_readers_see(dataset, token_rows, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(killed_before_rename(patched)):
        dataset.append_request(1, token_rows(1, 6))
    with monkeypatch.context() as patched, pytest.raises(killed_before_rename(patched)):
        dataset.append_request(5, token_rows(5, 6))
    with monkeypatch.context() as patched, pytest.raises(killed_before_rename(patched)):
        dataset.add_session({"notices": []})
    leftovers = [*dataset.folder.rglob(".*.tmp")]
    assert len(leftovers) == 3
    assert len(dataset.read()) == len(pd.read_parquet(dataset.rows_dir)) == 8
    assert dataset.completed_requests() == {0, 1}
    assert len(dataset.provenance["sessions"]) == 1
    dataset.add_session({"notices": []})
    assert not [*dataset.folder.rglob(".*.tmp")]


def test_a_file_is_never_half_there(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with monkeypatch.context() as patched, pytest.raises(killed_before_rename(patched)):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"mae_ms": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_frame_survives_the_disk(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": [0.1, np.nan], "c": ["x", None]})
    write_frame(tmp_path / "frame.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), frame)


# --- a disk that is full, a folder that is none ---------------------------------------------


def assert_explains_a_full_disk(error, path):
    message = str(error)
    assert message.startswith(f"cannot write {path}")
    assert "make room" in message
    assert "\n" not in message


def test_a_disk_that_is_full(dataset, token_rows, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(DatasetError, match="No space left") as caught:
        dataset.append_request(2, token_rows(2))
    assert_explains_a_full_disk(caught.value, dataset.rows_dir)
    assert not list(dataset.rows_dir.glob(".*"))
    assert len(dataset.read()) == 8


def test_a_file_that_may_not_grow_for_real(dataset, token_rows):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DatasetError, match="File too large") as caught:
            dataset.append_request(2, token_rows(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_explains_a_full_disk(caught.value, dataset.rows_dir)
    assert not list(dataset.rows_dir.glob(".*"))
    assert len(dataset.read()) == 8


def test_a_disk_that_is_full_for_real(tmp_path, token_rows):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting needs root")
    try:
        dataset = Dataset.create(disk, IDENTITY, 100)
        requests = [(request_id, token_rows(request_id, 50)) for request_id in range(100)]
        with pytest.raises(DatasetError, match="No space left on device") as caught:
            list(itertools.starmap(dataset.append_request, requests))
        assert_explains_a_full_disk(caught.value, dataset.rows_dir)
        rows = dataset.read()
        assert len(rows) == 50 * len(dataset.completed_requests()) > 0
        assert not list(dataset.rows_dir.glob(".*"))
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_is_a_file(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"^cannot write .*choose another place"):
        Dataset.create(tmp_path / place, IDENTITY, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_that_cannot_be_written():
    with pytest.raises(DatasetError, match=r"^cannot write /proc/"):
        write_atomically(Path("/proc/llmlat/file"), b"")


# --- what cannot be trusted ---------------------------------------------


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_parquet_file(dataset, keep):
    path = request_file(dataset)
    path.write_bytes(path.read_bytes()[:keep])
    message = refused(dataset, "damaged parquet file", "delete it and run the same command again")
    assert message.startswith(str(path))


def test_a_file_that_cannot_be_opened(dataset):
    request_file(dataset).unlink()
    request_file(dataset).symlink_to("nowhere")
    refused(dataset, "damaged parquet file")


def rewrite(dataset, change, request_id=0, metadata=None):
    """Rewrite a request's file with its table changed."""
    path = request_file(dataset, request_id)
    table = pq.read_table(path)
    changed = change(table)
    pq.write_table(
        changed.replace_schema_metadata(table.schema.metadata if metadata is None else metadata), path
    )


def test_rows_of_another_dataset(dataset, tmp_path, token_rows):
    other = Dataset.create(tmp_path / "other", {**IDENTITY, "seed": 9}, 1)
    other.append_request(0, token_rows(0))
    request_file(dataset).write_bytes(request_file(other).read_bytes())
    refused(dataset, "belong to another dataset", dataset.key, request_file(dataset).name)


def test_rows_of_no_dataset(dataset):
    rewrite(dataset, lambda table: table, metadata={})
    refused(dataset, "belong to another dataset")


def set_column(name, values, dtype=None):
    def change(table):
        index = table.schema.get_field_index(name)
        return table.set_column(
            index, pa.field(name, dtype or SCHEMA.field(name).type), pa.array(values, dtype)
        )

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1.0, 0.0])
def test_latencies_that_are_none(dataset, value):
    rewrite(dataset, set_column("token_latency_ms", [5.0, 5.0, value, 5.0]))
    message = refused(dataset, "token_latency_ms is not a positive number in 1 of 8 rows")
    assert "(first: request 0, token 2)" in message
    assert "delete" in message


def test_latencies_that_are_missing(dataset):
    rewrite(dataset, set_column("token_latency_ms", [5.0, None, 5.0, 5.0]))
    refused(dataset, "token_latency_ms", request_file(dataset).name, "delete it")


def test_a_column_of_another_kind(dataset):
    rewrite(dataset, set_column("token_latency_ms", ["fast"] * 4, pa.string()))
    refused(dataset, request_file(dataset).name, "delete it")


def test_a_missing_column(dataset):
    rewrite(dataset, lambda table: table.drop_columns(["context_length", "phase"]))
    refused(dataset, "lacks the columns context_length, phase", request_file(dataset).name)


def test_a_column_more_is_passed_over(dataset):
    rewrite(dataset, lambda table: table.append_column("note", pa.array(["x"] * 4)))
    assert dataset.read().columns.tolist() == SCHEMA.names


def test_rows_that_are_there_twice(dataset):
    copy = dataset.rows_dir / "request-000005.parquet"
    copy.write_bytes(request_file(dataset, 1).read_bytes())
    refused(dataset, "lost or doubled in 1 sequences (first: request 1)", "delete")


def test_rows_that_were_lost(dataset):
    rewrite(dataset, lambda table: table.filter(pa.array([True, False, True, True])), request_id=1)
    refused(dataset, "lost or doubled in 1 sequences (first: request 1)")


def test_a_renamed_folder(dataset):
    renamed = Dataset(dataset.folder.rename(dataset.folder.with_name("my-best-run")))
    refused(renamed, f"belongs to key {dataset.key}", "give the folder its own name back")


def test_provenance_of_another_measurement(dataset):
    path = dataset.folder / "provenance.json"
    provenance = json.loads(path.read_text())
    provenance["identity"]["seed"] = 5
    path.write_text(json.dumps(provenance))
    refused(dataset, "its provenance belongs to")


@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", "{}", '{"key": 1}', b"\xff\xfe"])
def test_provenance_that_is_none(dataset, content):
    path = dataset.folder / "provenance.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(dataset, "provenance.json is missing or unreadable")


def test_a_folder_that_is_no_dataset(tmp_path):
    refused(Dataset(tmp_path / "nowhere"), "provenance.json is missing", "outputs/datasets/")


def test_a_dataset_without_rows(tmp_path):
    refused(Dataset.create(tmp_path, IDENTITY, 2), "holds no rows")


def test_datasets_are_read_without_torch():
    code = "import sys; import llmlat.dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert dataset_module.KEY_LENGTH == 16


def test_two_processes_take_turns(dataset):
    """The second waits until the first is done, and says for what."""
    script = f"""
import logging
from pathlib import Path
from llmlat.dataset import Dataset
logging.basicConfig(level=logging.INFO, format="%(message)s")
dataset = Dataset(Path({str(dataset.folder)!r}))
with dataset.alone():
    print(len(dataset.provenance["sessions"]))
"""
    with dataset.alone():
        other = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert other.stderr is not None
        assert "Waiting for another run" in other.stderr.readline()
        assert other.poll() is None
        dataset.add_session({"notices": []})
    output, _ = other.communicate(timeout=30)
    assert output.strip() == "2", "it saw what the first had written"
