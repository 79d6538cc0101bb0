"""Files are written whole or not at all, whatever becomes of the process or the disk."""

import errno
import itertools
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llmlat.dataset import Dataset, write_frame
from llmlat.errors import DatasetError
from llmlat.files import read_json, write_atomically, write_json


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
    assert read_json(path) == {"old": 1}


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


def test_a_disk_that_is_full_for_real(tmp_path, token_rows, identity):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting needs root")
    try:
        dataset = Dataset.create(disk, identity, 100)
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
def test_a_place_that_is_a_file(tmp_path, place, identity):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"^cannot write .*choose another place"):
        Dataset.create(tmp_path / place, identity, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_that_cannot_be_written():
    with pytest.raises(DatasetError, match=r"^cannot write /proc/"):
        write_atomically(Path("/proc/llmlat/file"), b"")
