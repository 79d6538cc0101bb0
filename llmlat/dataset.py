"""Datasets of token rows on disk: the only reader and writer of parquet.

A dataset is a folder named by its key, a hash of everything that decides the measurement::

    outputs/datasets/<key>/
        provenance.json               what was measured, on what, by which sessions
        rows/request-000000.parquet   a file a completed request
        rows/warmup-0000.parquet      a file a session that warmed up
        rows/_partial-000007.parquet  the rows of a request that broke off; readers pass it over

Every file appears whole or not at all: it is written under a temporary name and renamed.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from llmlat.errors import DatasetError, one_line
from llmlat.records import SCHEMA, TARGET

log = logging.getLogger(__name__)

KEY_LENGTH = 16
_KEY_FIELD = b"llmlat.dataset_key"


def key_of(identity: Mapping[str, Any]) -> str:
    """Return the key of a measurement: the start of the SHA-256 of its identity as canonical JSON."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]


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
    write_atomically(path, _parquet_bytes(pa.Table.from_pandas(frame, preserve_index=False)))


def _parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


@dataclass(frozen=True)
class Dataset:
    """A dataset of token rows.

    Attributes
    ----------
    folder : Path
        Where it is; the folder's name is its key.
    """

    folder: Path

    @classmethod
    def create(cls, root: Path, identity: Mapping[str, Any], n_requests: int) -> "Dataset":
        """Open the dataset of an identity, making it where it does not exist yet.

        Parameters
        ----------
        root : Path
            The folder of all datasets.
        identity : mapping
            Everything that decides the measurement, JSON-serialisable.
        n_requests : int
            How many requests make the dataset complete.
        """
        dataset = cls(root / key_of(identity))
        path = dataset.folder / "provenance.json"
        if not path.is_file():
            with suppress(OSError):  # writing will say what is wrong
                dataset.folder.mkdir(parents=True, exist_ok=True)
            # Several jobs may come to a new dataset at once; the last must not undo the first one's session.
            lock = FileLock(dataset.folder / ".create.lock") if dataset.folder.is_dir() else nullcontext()
            with lock:
                if not path.is_file():
                    provenance = {"key": dataset.key, "identity": dict(identity), "n_requests": n_requests}
                    write_json(path, {**provenance, "sessions": []})
        return dataset

    @property
    def key(self) -> str:
        """The hash that names the dataset."""
        return self.folder.name

    @property
    def rows_dir(self) -> Path:
        """The folder of parquet files, readable with `pandas.read_parquet`."""
        return self.folder / "rows"

    @property
    def provenance(self) -> dict[str, Any]:
        """What was measured, on what, and by which sessions.

        Raises
        ------
        DatasetError
            Where it is missing, unreadable, or belongs to another key.
        """
        path = self.folder / "provenance.json"
        try:
            provenance: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            measured = {field: provenance[field] for field in ("key", "identity", "n_requests", "sessions")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise DatasetError(
                f"dataset={self.folder}: {path.name} is missing or unreadable ({reason}); "
                "name a folder under outputs/datasets/ that a run has made."
            ) from error
        if measured["key"] != self.key or key_of(measured["identity"]) != self.key:
            raise DatasetError(
                f"dataset={self.folder}: its provenance belongs to key {measured['key']}, not to "
                f"{self.key}; give the folder its own name back, or measure again."
            )
        return provenance

    @property
    def is_complete(self) -> bool:
        """Whether every request that was planned is on disk."""
        return len(self.completed_requests()) >= int(self.provenance["n_requests"])

    def completed_requests(self) -> set[int]:
        """Return the ids of the requests whose rows are on disk."""
        names = (re.fullmatch(r"request-(\d+)\.parquet", p.name) for p in self.rows_dir.glob("*.parquet"))
        return {int(match[1]) for match in names if match}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the dataset within the block, waiting while another process measures into it."""
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info(f"Waiting for another run that is measuring dataset {self.key}.")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def add_session(self, session: Mapping[str, Any]) -> int:
        """Record a process that measures into this dataset, and return its number, from 0."""
        provenance = self.provenance
        provenance["sessions"].append(dict(session))
        write_json(self.folder / "provenance.json", provenance)
        for leftover in [*self.folder.glob(".*.tmp"), *self.rows_dir.glob(".*.tmp")]:
            leftover.unlink(missing_ok=True)
        return len(provenance["sessions"]) - 1

    def append_request(self, request_id: int, rows: pd.DataFrame) -> None:
        """Add the rows of a completed request; what is left of a broken-off try goes."""
        self._write_rows(f"request-{request_id:06d}.parquet", rows)
        (self.rows_dir / f"_partial-{request_id:06d}.parquet").unlink(missing_ok=True)

    def append_warmup(self, session_id: int, rows: pd.DataFrame) -> None:
        """Add the rows that a session generated to warm up."""
        self._write_rows(f"warmup-{session_id:04d}.parquet", rows)

    def keep_partial(self, request_id: int, rows: pd.DataFrame) -> None:
        """Keep the rows of a request that broke off, where readers pass them over."""
        self._write_rows(f"_partial-{request_id:06d}.parquet", rows)

    def _write_rows(self, name: str, rows: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
        marked = {**(table.schema.metadata or {}), _KEY_FIELD: self.key.encode()}
        write_atomically(self.rows_dir / name, _parquet_bytes(table.replace_schema_metadata(marked)))

    def read(self) -> pd.DataFrame:
        """Read every row, checked, in the order of measuring.

        Returns
        -------
        DataFrame
            The columns of `llmlat.records.COLUMNS`, warm-up rows included.

        Raises
        ------
        DatasetError
            Where a file is damaged or another dataset's, or a latency cannot be one.
        """
        _ = self.provenance
        paths = sorted(p for p in self.rows_dir.glob("*.parquet") if not p.name.startswith(("_", ".")))
        if not paths:
            raise DatasetError(
                f"dataset={self.folder}: it holds no rows; run again without `dataset` to measure."
            )
        rows: pd.DataFrame = pa.concat_tables([self._read_file(path) for path in paths]).to_pandas()
        rows = rows.sort_values(["session_id", "completed_at_ns"], kind="stable", ignore_index=True)
        _check_rows(rows, self.folder)
        return rows

    def _read_file(self, path: Path) -> pa.Table:
        remedy = "delete it and run the same command again: only that request is measured again."
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path}: damaged parquet file ({one_line(error)}); {remedy}") from error
        if (table.schema.metadata or {}).get(_KEY_FIELD, b"").decode() != self.key:
            raise DatasetError(f"{path}: its rows belong to another dataset than {self.key}; {remedy}")
        missing = set(SCHEMA.names) - set(table.column_names)
        if missing:
            raise DatasetError(f"{path}: it lacks the columns {', '.join(sorted(missing))}; {remedy}")
        try:
            return table.select(SCHEMA.names).cast(SCHEMA)
        except (pa.ArrowException, ValueError) as error:
            raise DatasetError(f"{path}: not token rows ({one_line(error)}); {remedy}") from error


def _check_rows(rows: pd.DataFrame, folder: Path) -> None:
    """Refuse rows that no measurement can have produced."""
    latency = rows[TARGET].to_numpy()
    impossible = ~np.isfinite(latency) | (latency <= 0)
    if impossible.any():
        first = rows.loc[impossible].iloc[0]
        raise DatasetError(
            f"dataset={folder}: {TARGET} is not a positive number in {impossible.sum()} of {len(rows)} rows "
            f"(first: request {first.request_id}, token {first.token_index}); "
            "delete the files of those requests and run again."
        )
    sequences = rows[~rows["is_warmup"]].groupby(["request_id", "sequence_index"])
    counted = sequences["token_index"].agg(["max", "size", "nunique"])
    uneven = counted[(counted["max"] + 1 != counted["size"]) | (counted["nunique"] != counted["size"])]
    if len(uneven):
        raise DatasetError(
            f"dataset={folder}: rows are lost or doubled in {len(uneven)} sequences (first: "
            f"request {uneven.index[0][0]}); delete the files of those requests and run again."
        )
