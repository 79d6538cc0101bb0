"""Datasets of token rows on disk.

A dataset is a folder named by its key, a hash of everything that decides the measurement::

    outputs/datasets/<key>/
        provenance.json                 what was measured, on what, by which sessions
        rows/request-000000.parquet     a file a completed request
        rows/warmup-0000.parquet        a file a session that warmed up
        rows/_partial-000007.parquet    the rows of a request that broke off
        rows/_flagged-000007-0.parquet  a try of a request that was measured again
        skipped/request-000007.json     a request that was not measured, and why
        telemetry/session-0000.parquet  what a session sampled of the machine

Readers of rows/ pass over names that begin with an underscore. Every file appears whole or not at all: it
is written under a temporary name and renamed.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout

from llmlat.dataset.files import write_frame
from llmlat.dataset.provenance import KEY_LENGTH, PROVENANCE, key_of, read_provenance
from llmlat.dataset.row_files import check_rows, read_rows, write_rows
from llmlat.errors import DatasetError
from llmlat.files import read_object, write_json

__all__ = ["KEY_LENGTH", "Dataset", "DatasetState", "key_of", "write_frame"]

log = logging.getLogger(__name__)

DatasetState = tuple[tuple[str, int, int], ...]
"""The files of rows: of each its path, its size in bytes, and when it was written, in ns."""


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
    def create(
        cls, root: Path, identity: Mapping[str, Any], n_requests: int, *, is_finished: bool = True
    ) -> "Dataset":
        """Open the dataset of an identity, making it where it does not exist yet.

        Parameters
        ----------
        root : Path
            The folder of all datasets.
        identity : mapping
            Everything that decides the measurement, JSON-serialisable.
        n_requests : int
            How many requests are planned.
        is_finished : bool
            Whether those make the dataset complete. Where the protocol decides as it goes, `finish` does.
        """
        dataset = cls(root / key_of(identity))
        path = dataset.folder / PROVENANCE
        if not path.is_file():
            with suppress(OSError):  # writing will say what is wrong
                dataset.folder.mkdir(parents=True, exist_ok=True)
            # Several jobs may come to a new dataset at once; the last must not undo the first one's session.
            lock = FileLock(dataset.folder / ".create.lock") if dataset.folder.is_dir() else nullcontext()
            with lock:
                if not path.is_file():
                    provenance = {"key": dataset.key, "identity": dict(identity), "n_requests": n_requests}
                    write_json(path, {**provenance, "finished": is_finished, "sessions": []})
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
        return read_provenance(self.folder)

    @property
    def is_complete(self) -> bool:
        """Whether every request was measured or skipped, and no more are to come."""
        provenance = self.provenance
        return self.is_finished and len(self.accounted_requests()) >= int(provenance["n_requests"])

    @property
    def is_finished(self) -> bool:
        """Whether no requests are to come beyond those that are planned."""
        return bool(self.provenance.get("finished", True))

    def completed_requests(self) -> set[int]:
        """Return the ids of the requests whose rows are on disk."""
        return _request_ids(self.rows_dir, "parquet")

    def accounted_requests(self) -> set[int]:
        """Return the ids of the requests that need not be measured: completed, or skipped."""
        return self.completed_requests() | _request_ids(self.folder / "skipped", "json")

    def skipped(self) -> list[dict[str, Any]]:
        """Return why requests were not measured, in their order.

        Returns
        -------
        list of dict
            `request_id`, `prompt_ids`, `engine`, `batch_size`, `num_beams`, `prompt_tokens`,
            `max_new_tokens`, `reason` (`out_of_memory`, `larger_than_one_that_did_not_fit` or
            `not_answered`), `at_token`, `wanted_bytes`, `memory_total_bytes`, `memory_peak_bytes`,
            `because_of` (the request that did not fit) and `session_id`; null where it is not known. Of one
            that a server did not answer also `why` and `attempts`.
        """
        paths = sorted((self.folder / "skipped").glob("request-*.json"))
        return [_read_skipped(path) for path in paths]

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
        sessions = [*self.provenance["sessions"], dict(session)]
        self.update(sessions=sessions)
        for leftover in [*self.folder.glob(".*.tmp"), *self.folder.glob("*/.*.tmp")]:
            leftover.unlink(missing_ok=True)
        return len(sessions) - 1

    def update_session(self, session_id: int, **known: Any) -> None:
        """Add what became known of a session as it went."""
        sessions = self.provenance["sessions"]
        sessions[session_id] |= known
        self.update(sessions=sessions)

    def end_session(self, session_id: int, **known: Any) -> None:
        """Add what a session knows at its end, however it ends: what it skipped, and whether that was all."""
        n_skipped = sum(entry["session_id"] == session_id for entry in self.skipped())
        self.update_session(session_id, **known, skipped=n_skipped, finished=self.is_complete)

    def update(self, **known: Any) -> None:
        """Add what became known of the measurement as it went."""
        write_json(self.folder / PROVENANCE, {**self.provenance, **known})

    def finish(self, n_requests: int, **known: Any) -> None:
        """Say that these requests are all: with them on disk, the dataset is complete."""
        self.update(n_requests=n_requests, finished=True, **known)

    def append_request(self, request_id: int, rows: pd.DataFrame) -> None:
        """Add the rows of a completed request; what is left of a broken-off try goes."""
        write_rows(self.rows_dir / f"request-{request_id:06d}.parquet", rows, self.key)
        (self.rows_dir / f"_partial-{request_id:06d}.parquet").unlink(missing_ok=True)
        self._skipped_path(request_id).unlink(missing_ok=True)

    def append_warmup(self, session_id: int, rows: pd.DataFrame) -> None:
        """Add the rows that a session generated to warm up."""
        write_rows(self.rows_dir / f"warmup-{session_id:04d}.parquet", rows, self.key)

    def append_telemetry(self, session_id: int, samples: pd.DataFrame) -> None:
        """Add what a session sampled of the machine."""
        write_frame(self.folder / "telemetry" / f"session-{session_id:04d}.parquet", samples)

    def keep_partial(self, request_id: int, rows: pd.DataFrame) -> None:
        """Keep the rows of a request that broke off, where readers pass them over."""
        write_rows(self.rows_dir / f"_partial-{request_id:06d}.parquet", rows, self.key)

    def set_aside(self, request_id: int, rows: pd.DataFrame) -> None:
        """Keep the rows of a try that is measured again, where readers pass them over."""
        n_before = len(list(self.rows_dir.glob(f"_flagged-{request_id:06d}-*.parquet")))
        write_rows(self.rows_dir / f"_flagged-{request_id:06d}-{n_before}.parquet", rows, self.key)

    def skip(self, skipped: Mapping[str, Any]) -> None:
        """Record a request that is not measured, and why: see `skipped`. Deleting its file has it tried."""
        write_json(self._skipped_path(int(skipped["request_id"])), dict(skipped))

    def forget_skipped(self) -> None:
        """Have the skipped requests tried again."""
        for path in (self.folder / "skipped").glob("request-*.json"):
            path.unlink()

    def _skipped_path(self, request_id: int) -> Path:
        return self.folder / "skipped" / f"request-{request_id:06d}.json"

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
        paths = self.row_files()
        if not paths:
            raise DatasetError(
                f"dataset={self.folder}: it holds no rows; run again without `dataset` to measure."
            )
        rows: pd.DataFrame = pa.concat_tables([read_rows(path, self.key) for path in paths]).to_pandas()
        rows = rows.sort_values(["session_id", "completed_at_ns"], kind="stable", ignore_index=True)
        check_rows(rows, self.folder)
        return rows

    @property
    def state(self) -> DatasetState:
        """What tells whether the rows are still those that were read."""
        stats = {path: path.stat() for path in self.row_files()}
        return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items())

    def row_files(self) -> list[Path]:
        """Return the files that hold rows, without what readers pass over."""
        return sorted(p for p in self.rows_dir.glob("*.parquet") if not p.name.startswith(("_", ".")))


def _request_ids(folder: Path, suffix: str) -> set[int]:
    names = (re.fullmatch(rf"request-(\d+)\.{suffix}", path.name) for path in folder.glob(f"*.{suffix}"))
    return {int(match[1]) for match in names if match}


def _read_skipped(path: Path) -> dict[str, Any]:
    try:
        content = read_object(path)
        return {**content, "request_id": int(content["request_id"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: damaged ({type(error).__name__}); delete it and run the same command again: that "
            "request is tried again."
        ) from error
