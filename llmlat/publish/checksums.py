"""SHA256SUMS: a line a file, as `sha256sum` writes and checks it."""

import hashlib
import re
from pathlib import Path, PurePosixPath

from llmlat.errors import DatasetError
from llmlat.files import write_atomically

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def visible_files(folder: Path) -> list[str]:
    """Return the files of a folder, relative to it, in order; hidden ones (.git, locks) and the sums not."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    shown = (path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
    return sorted(name for name in shown if name != SUMS)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write the sums of every visible file."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in visible_files(folder)]
    write_atomically(folder / SUMS, "".join(lines).encode())


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sums that a folder was published with, by file.

    Raises
    ------
    DatasetError
        Where there are none, a line is none, or names a file elsewhere.
    """
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{folder}: {SUMS} is missing or unreadable; name a folder that `python -m llmlat.publish` "
            "has made."
        ) from error
    matches = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match}
    if len(sums) != len(lines) or not sums or not all(map(_is_inside, sums)):
        raise DatasetError(f"{path}: damaged; get the folder again from where it was published.")
    return sums


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def differences(folder: Path, sums: dict[str, str]) -> list[str]:
    """Return what a folder holds differently from its sums, a few words a file, in order."""
    there = set(visible_files(folder))
    words = {name: "is missing" for name in sums if name not in there}
    words |= {name: "was not published" for name in there if name not in sums}
    for name in there & set(sums):
        if not _has_sum(folder / name, sums[name]):
            words[name] = "is not as it was published"
    return [f"{name} {words[name]}" for name in sorted(words)]


def _has_sum(path: Path, expected: str) -> bool:
    try:
        return sha256_of(path) == expected
    except OSError:
        return False
