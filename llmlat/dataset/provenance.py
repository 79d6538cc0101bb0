"""What was measured, on what, and by which sessions: the identity that names a dataset, and its record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmlat.errors import DatasetError
from llmlat.files import digest_of, finite, read_object

PROVENANCE = "provenance.json"
KEY_LENGTH = 16


def key_of(identity: Mapping[str, Any]) -> str:
    """Return the key of a measurement: the start of the SHA-256 of its identity as canonical JSON."""
    return digest_of(finite(identity))[:KEY_LENGTH]


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read the record of the dataset in a folder that is named by its key.

    Raises
    ------
    DatasetError
        Where it is missing, unreadable, or belongs to another key.
    """
    path = folder / PROVENANCE
    try:
        provenance = read_object(path)
        key, identity = provenance["key"], provenance["identity"]
        _ = provenance["n_requests"], provenance["sessions"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise DatasetError(
            f"dataset={folder}: {path.name} is missing or unreadable ({reason}); "
            "name a folder under outputs/datasets/ that a run has made."
        ) from error
    if key != folder.name or key_of(identity) != folder.name:
        raise DatasetError(
            f"dataset={folder}: its provenance belongs to key {key}, not to {folder.name}; give the folder "
            "its own name back, or measure again."
        )
    return provenance
