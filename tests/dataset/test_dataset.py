"""Datasets on disk: named by what decides them, resumable, and read in the order of measuring."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from llmlat import dataset as dataset_module
from llmlat.dataset import Dataset, key_of
from llmlat.records import SCHEMA

# --- keys ---------------------------------------------


def test_a_key_does_not_depend_on_the_order_of_fields(identity):
    shuffled = {"nested": {"a": [1, 2], "b": 1}, "seed": 0, "model": "tiny"}
    assert key_of(shuffled) == key_of(identity)
    assert len(key_of(identity)) == 16


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"model": "tiny "}, {"nested": {"b": 1, "a": [2, 1]}}, {"x": None}]
)
def test_a_key_depends_on_every_value(change, identity):
    assert key_of({**identity, **change}) != key_of(identity)


# --- writing and reading ---------------------------------------------


def test_what_is_written_is_read(tmp_path, token_rows, identity):
    dataset = Dataset.create(tmp_path, identity, 2)
    assert dataset.folder == tmp_path / key_of(identity)
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


def test_rows_come_in_the_order_of_measuring(tmp_path, token_rows, identity):
    dataset = Dataset.create(tmp_path, identity, 3)
    # Request 1 was measured by a later session than 2, whose monotonic clock began elsewhere.
    dataset.append_request(2, token_rows(2, 3, session_id=0))
    dataset.append_request(0, token_rows(0, 3, session_id=0))
    dataset.append_request(1, token_rows(1, 3, session_id=1))
    assert dataset.read()["request_id"].tolist() == [0, 0, 0, 2, 2, 2, 1, 1, 1]
    assert dataset.read()["token_index"].tolist() == [0, 1, 2] * 3


def test_files_are_of_the_schema_and_know_their_dataset(dataset):
    schema = pq.read_schema(dataset.rows_dir / "request-000000.parquet")
    assert [(f.name, f.type, f.nullable) for f in schema] == [(f.name, f.type, f.nullable) for f in SCHEMA]
    assert schema.metadata[b"llmlat.dataset_key"].decode() == dataset.key


def test_a_device_latency_that_was_not_taken_is_null(tmp_path, token_rows, identity):
    dataset = Dataset.create(tmp_path, identity, 1)
    dataset.append_request(0, token_rows(0, 3, device_latency_ms=[1.5, np.nan, 2.5]))
    column = pq.read_table(dataset.rows_dir / "request-000000.parquet")["device_latency_ms"]
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


def test_creating_a_dataset_again_keeps_it(tmp_path, token_rows, identity):
    dataset = Dataset.create(tmp_path, identity, 2)
    dataset.add_session({"notices": ["first"]})
    dataset.append_request(0, token_rows(0))
    again = Dataset.create(tmp_path, identity, 2)
    assert again.provenance["sessions"] == [{"notices": ["first"]}]
    assert again.completed_requests() == {0}
    assert again.add_session({"notices": ["second"]}) == 1
    assert again.provenance["identity"] == identity
    assert again.provenance["n_requests"] == 2


def test_a_session_ends_with_what_it_skipped_itself(dataset):
    session_id = dataset.add_session({"notices": []})
    for skipped_by in (0, session_id, session_id):
        dataset.skip({"request_id": 5 + len(dataset.skipped()), "session_id": skipped_by})
    dataset.end_session(session_id, retries={"requests": 3})
    earlier, ended = dataset.provenance["sessions"]
    assert earlier == {"notices": []}
    assert ended == {"notices": [], "retries": {"requests": 3}, "skipped": 2, "finished": True}


# --- shared ---------------------------------------------


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
