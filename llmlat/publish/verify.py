"""Whether a published folder is what was published: every byte, its key, its columns and its counts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlat.dataset import Dataset
from llmlat.errors import DatasetError
from llmlat.publish.checksums import SUMS, differences, read_sums, sha256_of

MAX_NAMED = 3


@dataclass(frozen=True)
class Verified:
    """What a publication that is whole holds.

    Attributes
    ----------
    key : str
        The dataset's key.
    fingerprint : str
        The SHA-256 of SHA256SUMS, which stands for every byte: compare it with the one that was cited.
    n_files, n_rows, n_requests : int
        How many files were compared; token rows without the warm-up's, and the requests that they are of.
    is_complete : bool
        Whether the measurement had come to its end.
    """

    key: str
    fingerprint: str
    n_files: int
    n_rows: int
    n_requests: int
    is_complete: bool


def verify(folder: Path) -> Verified:
    """Compare a published folder with its checksums, then read it as a dataset.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DatasetError
        Where a file differs, is missing or is one too many, or the rows are not the dataset's; it names them.
    """
    folder = folder.resolve()
    sums = read_sums(folder)
    _check_files(folder, sums)
    dataset = Dataset(folder)
    rows = dataset.read()
    counted = rows[~rows["is_warmup"]]
    found = {"n_rows": len(counted), "n_requests": int(counted["request_id"].nunique())}
    _check_counts(dataset, found)
    return Verified(
        dataset.key, sha256_of(folder / SUMS), n_files=len(sums), is_complete=dataset.is_complete, **found
    )


def _check_files(folder: Path, sums: dict[str, str]) -> None:
    differing = differences(folder, sums)
    if differing:
        more = f" and {len(differing) - MAX_NAMED} more" if len(differing) > MAX_NAMED else ""
        raise DatasetError(
            f"{folder}: {', '.join(differing[:MAX_NAMED])}{more}; get the folder again from where it was "
            "published."
        )


def _check_counts(dataset: Dataset, found: dict[str, int]) -> None:
    published: Any = dataset.provenance.get("publication")
    if not isinstance(published, dict) or {name: published.get(name) for name in found} != found:
        raise DatasetError(
            f"{dataset.folder}: its rows ({found['n_rows']} of {found['n_requests']} requests) are not those "
            "that provenance.json says were published; get the folder again from where it was published."
        )
