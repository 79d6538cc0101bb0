"""A dataset that cannot be trusted is refused in one line that says what to do."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmlat.dataset import Dataset
from llmlat.errors import DatasetError
from llmlat.records import SCHEMA


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


def test_rows_of_another_dataset(dataset, tmp_path, token_rows, identity):
    other = Dataset.create(tmp_path / "other", {**identity, "seed": 9}, 1)
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
    del provenance["sha256"]
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


def test_a_dataset_without_rows(tmp_path, identity):
    refused(Dataset.create(tmp_path, identity, 2), "holds no rows")
