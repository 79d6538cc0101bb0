"""Files that are whole or not there, and JSON that is what was written: the one reader and the one writer.

What is written is on the disk before its name is, and a JSON object carries a digest of its content, which
reading compares: a flipped bit is not taken for a number. Only regular files are read, since a pipe would be
waited for without end.
"""

import errno
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from llmlat.errors import DatasetError, one_line

DIGEST = "sha256"
"""The member of a JSON object that holds the digest of the others."""
MAX_INTEGER_DIGITS = 100  # more make no number here, and thousands take a long time to convert


class DamagedError(ValueError):
    """A file that was read and does not hold what it should; the message says why, and names no file."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read.

    Raises
    ------
    DamagedError
        Where it is no regular file, such as a pipe, which would be waited for.
    OSError
        Where it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedError("it is no regular file")
    return os.fdopen(descriptor, "rb")


def read_json(path: Path) -> Any:
    """Read a JSON file, without the digest that an object carries.

    Raises
    ------
    DamagedError
        A `ValueError`, where it is no JSON (which has neither NaN nor infinity), is nested too deeply, or is
        not what was written.
    OSError
        Where it cannot be read.
    """
    with open_regular(path) as file:
        content = parse_json(file.read())
    if isinstance(content, dict) and DIGEST in content:
        written = content.pop(DIGEST)
        if written != digest_of(content):
            raise DamagedError("its content is not what was written: its digest is another")
    return content


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; raises as `read_json` does."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DamagedError("it holds no JSON object")
    return content


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text says.

    Raises
    ------
    DamagedError
        Where it is none, or of no sensible size or depth.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_number)
    except RecursionError:
        raise DamagedError("it is nested too deeply") from None
    except ValueError as error:
        raise DamagedError(one_line(error)) from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits[:MAX_INTEGER_DIGITS])


def canonical(content: Any) -> bytes:
    """Return JSON that is the same for the same content, whatever the order of its members."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest_of(content: Any) -> str:
    """Return the SHA-256 of what a JSON file holds, however it is spelled there."""
    return hashlib.sha256(canonical(content)).hexdigest()


def finite(content: Any) -> Any:
    """Return content with null for every number that is none or infinite, which JSON does not have."""
    if isinstance(content, Mapping):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def plain(content: Any, default: Callable[[Any], Any] | None = None) -> Any:
    """Return content as it is once it is written and read back.

    Parameters
    ----------
    content : object
    default : callable, optional
        Spells what JSON has no words for.
    """
    return json.loads(json.dumps(finite(content), allow_nan=False, default=default))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically: null where a number is none or infinite, an object with its digest."""
    written = plain(content)
    if isinstance(written, dict):
        written[DIGEST] = digest_of({name: value for name, value in written.items() if name != DIGEST})
    text = json.dumps(written, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    # A lone surrogate becomes JSON's own escape of it.
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and durably: a name that is there after a power cut is whole.

    Raises
    ------
    DatasetError
        Where the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _make_folder(path.parent)
        # No name that somebody else may have put there, a link least of all.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DatasetError(
            f"cannot write {path}: {error.strerror or error}. What was written before is whole; make room or "
            "choose another place (datasets_dir, hydra.run.dir), then run the same command again."
        ) from error


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk: a rename counts after a power cut only then."""
    if os.name == "nt":
        return  # folders cannot be opened there
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return  # one that may be written to and not listed
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EBADF}:  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)
