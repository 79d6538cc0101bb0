"""Writing files whole or not at all."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from llmlat.errors import DatasetError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and durably.

    Raises
    ------
    DatasetError
        Where the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DatasetError(
            f"cannot write {path}: {error.strerror or error}. What was written before is whole; make room or "
            "choose another place (datasets_dir, hydra.run.dir), then run the same command again."
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; NaN and infinity are refused, since JSON has neither."""
    write_atomically(
        path, (json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
    )


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as parquet, atomically."""
    write_table(path, pa.Table.from_pandas(frame, preserve_index=False))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as parquet, atomically."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(path, bytes(sink.getvalue()))
