"""What verifying a publication finds: every changed byte, and what sums that match cannot hide."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmlat.errors import DatasetError
from llmlat.files import write_json
from llmlat.publish import verify


def assert_found(folder: Path, words: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(words)) as caught:
        verify(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "provenance.json",
        "latency.svg",
        "rows/request-000002.parquet",
        "rows/warmup-0000.parquet",
    ],
)
def test_one_changed_byte(published: Path, name: str) -> None:
    content = bytearray((published / name).read_bytes())
    content[len(content) // 2] ^= 1
    (published / name).write_bytes(content)
    assert_found(published, f"{name} is not as it was published;")


def test_a_missing_file_and_one_too_many(published: Path) -> None:
    (published / "rows" / "request-000001.parquet").rename(published / "rows" / "request-000009.parquet")
    assert_found(
        published,
        "rows/request-000001.parquet is missing, rows/request-000009.parquet was not published;",
    )


def test_many_differences_are_counted(published: Path) -> None:
    for path in (published / "rows").iterdir():
        path.unlink()
    assert_found(published, " is missing and 1 more;")


def test_what_a_download_leaves_is_passed_over(published: Path) -> None:
    (published / ".git").mkdir()
    (published / ".git" / "config").write_text("")
    (published / ".gitattributes").write_text("")
    assert verify(published).n_files == 8


def sign_again(folder: Path) -> None:
    """Write the digests and sums anew, as someone who tampers with care would."""
    provenance = json.loads((folder / "provenance.json").read_text())
    write_json(folder / "provenance.json", provenance)
    names = [line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(sums))


def test_rows_of_another_dataset_with_sums_to_match(published: Path, measured: Any) -> None:
    other = measured(seed=7).rows_dir / "request-000001.parquet"
    shutil.copyfile(other, published / "rows" / "request-000001.parquet")
    sign_again(published)
    assert_found(published, "its rows belong to another dataset")


def test_another_identity_with_sums_to_match(published: Path) -> None:
    path = published / "provenance.json"
    path.write_text(path.read_text().replace('"model": "tiny"', '"model": "huge"', 1))
    sign_again(published)
    assert_found(published, "its provenance belongs to key")


def test_other_counts_with_sums_to_match(published: Path) -> None:
    path = published / "provenance.json"
    path.write_text(path.read_text().replace('"n_rows": 18', '"n_rows": 19', 1))
    sign_again(published)
    assert_found(published, "its rows (18 of 3 requests) are not those")


def test_tampering_with_sums_to_match_changes_the_fingerprint(published: Path) -> None:
    before = verify(published).fingerprint
    (published / "README.md").write_text("# Twice as fast\n")
    sign_again(published)
    assert verify(published).fingerprint != before
    assert re.fullmatch("[0-9a-f]{64}", before)


@pytest.mark.parametrize("line", ["", "nonsense", f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd"])
def test_sums_that_are_none(published: Path, line: str) -> None:
    (published / "SHA256SUMS").write_text(f"{line}\n" if line else "")
    assert_found(published, "SHA256SUMS: damaged")


def test_a_renamed_folder(published: Path) -> None:
    assert_found(published.rename(published.with_name("download")), "give the folder its own name back")
