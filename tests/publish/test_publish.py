"""A publication stands on its own: it is verified, refuses what it cannot be, and fits to the last digit."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from llmlat.dataset import Dataset
from llmlat.errors import DatasetError
from llmlat.publish import Publishing, publish, verify


def run_publish(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmlat.publish", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def refusal(*arguments: Any, **settings: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        publish(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- measured for real ---------------------------------------------


def test_a_fit_on_the_publication_is_the_same_to_the_last_digit(
    cli: SimpleNamespace, tiny: tuple[str, ...]
) -> None:
    # A lock of its own: what the tokens took does not matter, so nobody need wait for it.
    measuring = cli.run(
        *tiny,
        "prompt_set.limit=4",
        "prompt_set.max_new_tokens=6",
        "collect.repetitions=2",
        "hydra.run.dir=a",
        TMPDIR=str(cli.folder),
    )
    assert measuring.returncode == 0, measuring.stderr
    (dataset,) = (cli.folder / "outputs" / "datasets").iterdir()
    publishing = run_publish(str(dataset), "--to", "elsewhere/shared", cwd=cli.folder)
    assert (publishing.returncode, publishing.stderr) == (0, "")
    shutil.rmtree(dataset.parent)
    published = cli.folder / "elsewhere" / "shared" / dataset.name
    fitting = cli.run(f"dataset=elsewhere/shared/{dataset.name}", "hydra.run.dir=b")
    assert fitting.returncode == 0, fitting.stderr
    first, again = ((cli.folder / run / "metrics.json").read_text() for run in ("a", "b"))
    assert json.loads(first)["n_events"] == 48
    assert first == again
    assert run_publish("--verify", str(published), cwd=cli.folder).returncode == 0, (
        "fitting left nothing in it"
    )


# --- what is in it ---------------------------------------------


def test_it_is_a_dataset_with_the_same_rows(dataset: Dataset, published: Path) -> None:
    again = Dataset(published)
    assert again.is_complete
    pd.testing.assert_frame_equal(again.read(), dataset.read())
    assert again.provenance["identity"] == dataset.provenance["identity"]
    assert len(pd.read_parquet(published / "telemetry")) == 2
    assert len(pd.read_parquet(published / "rows")) == 21


def test_what_was_skipped_or_set_aside_is_published_too(dataset: Dataset, tmp_path: Path) -> None:
    rows = pd.read_parquet(dataset.rows_dir / "request-000001.parquet")
    dataset.set_aside(1, rows)
    dataset.update(n_requests=4)
    dataset.skip({"request_id": 3, "reason": "out_of_memory", "wanted_bytes": 5 * 10**9, "engine": "eager"})
    folder, verified = publish(dataset.folder, tmp_path / "published")
    assert (folder / "rows" / "_flagged-000001-0.parquet").is_file()
    assert Dataset(folder).skipped() == dataset.skipped()
    assert verified.is_complete
    assert (verified.n_rows, verified.n_requests) == (18, 3)


def test_sha256sum_checks_it_too(published: Path) -> None:
    checking = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=published, capture_output=True, text=True
    )
    assert checking.returncode == 0
    there = [p.relative_to(published).as_posix() for p in published.rglob("*") if p.is_file()]
    assert sorted(line.removesuffix(": OK") for line in checking.stdout.splitlines()) == sorted(
        name for name in there if name != "SHA256SUMS"
    )


def test_a_file_that_is_no_part_of_a_dataset_stays_behind(dataset: Dataset, tmp_path: Path) -> None:
    (dataset.folder / "notes.txt").write_text("mine")
    folder, _ = publish(dataset.folder, tmp_path / "published")
    assert not (folder / "notes.txt").exists()
    assert "- the file `notes.txt`" in (folder / "README.md").read_text()


def test_publishing_twice_changes_no_byte(dataset: Dataset, published: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        files = (p for p in published.rglob("*") if p.is_file())
        return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}

    before = state()
    assert publish(dataset.folder, published.parent)[0] == published
    assert state() == before
    assert [p.name for p in published.parent.iterdir()] == [published.name], "nothing is left beside it"


def test_publishing_again_with_another_title_replaces_it(dataset: Dataset, published: Path) -> None:
    publish(dataset.folder, published.parent, Publishing(title="Another", licence="cc0-1.0"))
    text = (published / "README.md").read_text()
    assert "# Another\n" in text
    assert text.startswith("---\nlicense: cc0-1.0\n")
    assert verify(published).n_rows == 18
    assert [p.name for p in published.parent.iterdir()] == [published.name]


# --- what is refused ---------------------------------------------


def test_an_incomplete_dataset(measured: Any, tmp_path: Path) -> None:
    dataset = measured(is_whole=False)
    message = refusal(dataset.folder, tmp_path / "published")
    assert "incomplete, 2 of 3 requests are there" in message
    assert "--incomplete" in message
    assert not (tmp_path / "published").exists()
    folder, verified = publish(dataset.folder, tmp_path / "published", Publishing(allows_incomplete=True))
    assert not verified.is_complete
    assert "> **The measurement is incomplete.** 2 of 3 planned" in (folder / "README.md").read_text()


def test_a_dataset_whose_protocol_has_not_ended(measured: Any, tmp_path: Path) -> None:
    dataset = measured()
    dataset.update(finished=False)
    assert "3 of at least 3 requests" in refusal(dataset.folder, tmp_path / "published")


def test_a_key_that_is_made_of_a_path(measured: Any, tmp_path: Path) -> None:
    dataset = measured(model="/home/alice/models/tiny")
    message = refusal(dataset.folder, tmp_path / "published")
    assert "model names a folder of this machine" in message
    assert "--with-paths" in message
    folder, _ = publish(dataset.folder, tmp_path / "published", Publishing(shows_places=True))
    assert Dataset(folder).provenance["identity"]["model"] == "/home/alice/models/tiny"


def test_a_damaged_dataset(dataset: Dataset, tmp_path: Path) -> None:
    (dataset.rows_dir / "request-000001.parquet").write_bytes(b"PAR1")
    assert "request-000001.parquet: damaged" in refusal(dataset.folder, tmp_path / "published")
    assert list((tmp_path / "published").glob("*")) == []


def test_something_else_in_the_way(dataset: Dataset, tmp_path: Path) -> None:
    target = tmp_path / "published" / dataset.key
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("years of work")
    assert "something else is there" in refusal(dataset.folder, tmp_path / "published")
    assert [p.name for p in target.iterdir()] == ["thesis.txt"]
    (target / "thesis.txt").unlink()
    assert publish(dataset.folder, tmp_path / "published")[0] == target, "an empty folder is in nobody's way"


def test_a_publication_that_someone_edited(dataset: Dataset, published: Path) -> None:
    (published / "README.md").write_text("my own words")
    message = refusal(dataset.folder, published.parent)
    assert "changed since it was published (README.md is not as it was published)" in message
    assert (published / "README.md").read_text() == "my own words"


def test_the_dataset_itself_as_the_place(dataset: Dataset) -> None:
    assert "the dataset itself" in refusal(dataset.folder, dataset.folder.parent)
    assert not (dataset.folder / "README.md").exists()


def test_a_place_that_cannot_be_written(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refusal(dataset.folder, tmp_path / "file")
