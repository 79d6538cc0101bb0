"""JSON has one reader and one writer: what is read is what was written, or it is refused at once."""

import json
import os
import random

import numpy as np
import pytest

from llmlat.errors import DatasetError
from llmlat.files import DamagedError, plain, read_json, read_object, write_atomically, write_json

CONTENT = {
    "name": "ümläut \U0001f600",
    "ms": [0.1, 1e-300, -0.0, 12345678901234567890],
    "none": None,
    "in": {"": {}},
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "below" / "file.json"


def test_what_is_written_is_read(path):
    write_json(path, CONTENT)
    assert read_json(path) == CONTENT == plain(CONTENT)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_json_that_nobody_sealed_is_read(path):
    path.parent.mkdir()
    path.write_text("[1, 2]", encoding="utf-8-sig")
    assert read_json(path) == [1, 2]
    with pytest.raises(DamagedError, match="no JSON object"):
        read_object(path)


def test_spelled_otherwise_it_is_still_what_was_written(path):
    write_json(path, CONTENT)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_json(path) == CONTENT


def test_a_number_that_is_none_is_null(path):
    nan, infinity = float("nan"), float("inf")
    write_json(path, {"mae_ms": nan, "all": [np.float64(-infinity), (infinity, 1.5)], "in": {"x": nan}})
    assert read_json(path) == {"mae_ms": None, "all": [None, [None, 1.5]], "in": {"x": None}}
    assert not {"NaN", "Infinity"} & set(path.read_text().replace('"', " ").split())


def test_a_lone_surrogate_is_escaped(path):
    write_json(path, {"text": "a\ud800b"})
    assert read_json(path) == {"text": "a\ud800b"}


def test_a_flipped_bit_is_found_or_changes_nothing(path):
    write_json(path, CONTENT | {f"mae_{i}_ms": i / 7 for i in range(40)})
    good, written = path.read_bytes(), read_json(path)
    chance, found = random.Random(0), 0
    for _ in range(1000):
        damaged = bytearray(good)
        damaged[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            read = read_json(path)
        except ValueError:
            found += 1
        else:
            # The name of the digest's own member may be what is damaged.
            assert {name: read.get(name) for name in written} == written
    assert found > 800


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5_000, "an integer of 5000 digits"),
        ("-" + "1" * 400, "an integer of 401 digits"),
        ("[1e999]", "1e999 is no JSON"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        ("", "Expecting value"),
        (b"\xff\xfe\xfa", "decode"),
        ('{"a": 1}\x00', "Extra data"),
    ],
)
def test_what_is_no_json(path, text, words):
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DamagedError, match=words):
        read_json(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DamagedError, match="no regular file"):
        read_json(tmp_path / "pipe.json")
    with pytest.raises((DamagedError, OSError)):
        read_json(tmp_path)


def test_a_link_where_the_temporary_file_would_be_is_not_written_through(tmp_path, monkeypatch):
    monkeypatch.setattr("llmlat.files.secrets.token_hex", lambda n: "same")
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / ".file.same.tmp").symlink_to(target)
    with pytest.raises(DatasetError, match="cannot write"):
        write_atomically(tmp_path / "file", b"theirs")
    assert target.read_text() == "mine"


def test_files_and_folders_are_on_the_disk_before_a_name_counts(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(tmp_path / "new" / "below" / "file", b"content")
    *folders, file, last = synced
    assert folders == [str(tmp_path), str(tmp_path / "new")]
    assert file.endswith(".tmp")
    assert last == str(tmp_path / "new" / "below")
