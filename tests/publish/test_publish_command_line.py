"""Publishing and verifying from the command line."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmlat.config import PACKAGE_DIR
from llmlat.dataset import Dataset
from llmlat.publish.__main__ import main, parser


def test_the_command_line(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(dataset.folder), "--licence", "odc-by", "--title", "Mine"]) == 0
    said = capsys.readouterr().out
    folder = f"outputs/published/{dataset.key}"
    assert f"{folder}: 8 files as published" in said
    assert "18 rows of 3 requests." in said
    assert f"python -m llmlat.publish --verify {folder}\n" in said
    assert f"python -m llmlat dataset={folder}\n" in said
    monkeypatch.chdir(folder)
    assert main(["--verify", "."]) == 0
    fingerprint = hashlib.sha256(Path("SHA256SUMS").read_bytes()).hexdigest()
    assert f"Fingerprint {fingerprint}" in capsys.readouterr().out
    Path("README.md").write_text("")
    assert main(["--verify", "."]) == 1
    assert "error: " in (complaint := capsys.readouterr().err)
    assert "README.md is not as it was published" in complaint


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere"]) == 1
    assert capsys.readouterr().err == (
        "error: nowhere: no such folder; name a dataset's, under outputs/datasets/.\n"
    )


def test_a_dataset_is_no_publication(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--verify", str(dataset.folder)]) == 1
    assert "SHA256SUMS is missing" in capsys.readouterr().err


def test_every_option_is_documented() -> None:
    page = (PACKAGE_DIR.parent / "docs" / "publishing.md").read_text(encoding="utf-8")
    options = {name for action in parser()._actions for name in action.option_strings if name[:2] == "--"}
    assert set(re.findall(r"--[a-z][\w-]+", page)) - {"--repo-type", "--local-dir", "--check", "--quiet"} == (
        options - {"--license"} | {"--help"}
    )


def test_publishing_loads_no_torch() -> None:
    code = (
        "import sys; import llmlat.publish.__main__; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
