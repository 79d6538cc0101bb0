"""Rows of measured datasets: of one, or of several set side by side."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from llmlat.config import config_dir
from llmlat.dataset import Dataset, DatasetState, key_of
from llmlat.provenance import describe, facts
from llmlat.records import REQUEST
from llmlat.sources import Rows
from llmlat.steps import one_row_a_step, previous_latency, with_contents

# The engine whose measurement, set beside, tells what the key-value cache does.
CONTRAST = {"eager": "no_cache", "no_cache": "eager"}


def rows_of(datasets: Sequence[Dataset], experiment: str, *, wants_contrast: bool = False) -> Rows:
    """Return the rows of datasets.

    Parameters
    ----------
    datasets : sequence of Dataset
        One or more; requests and sessions of several are numbered on, in their order.
    experiment : str
    wants_contrast : bool, default=False
        Whether the other engine's rows are looked for as well.

    Raises
    ------
    DatasetError
        Where one cannot be read or trusted.
    """
    one = datasets[0]
    tokens, steps = _read(one, one.state) if len(datasets) == 1 else _read_together(datasets)
    return Rows(
        steps=steps,
        tokens=tokens,
        about=about_datasets(datasets, experiment),
        described=_described(datasets, len(tokens)),
        folder=one.folder if len(datasets) == 1 else None,
        contrast=read_contrast(one) if wants_contrast and len(datasets) == 1 else None,
    )


@functools.lru_cache(maxsize=1)
def _read(dataset: Dataset, state: DatasetState) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a dataset's rows and its steps, read once for jobs that follow each other over it."""
    rows = dataset.read()
    return rows, with_what_is_known(one_row_a_step(rows), dataset.provenance)


def _read_together(datasets: Sequence[Dataset]) -> tuple[pd.DataFrame, pd.DataFrame]:
    frames = _numbered_on([dataset.read() for dataset in datasets])
    steps = [
        with_what_is_known(one_row_a_step(frame), dataset.provenance)
        for dataset, frame in zip(datasets, frames, strict=True)
    ]
    return pd.concat(frames, ignore_index=True), pd.concat(steps, ignore_index=True)


def with_what_is_known(steps: pd.DataFrame, provenance: Mapping[str, Any]) -> pd.DataFrame:
    """Set beside steps what is one value for their dataset, and what is known of the step before.

    These are the columns of `llmlat.records.CONTENTS`, `FACTS` and `BEFORE`.
    """
    return with_contents(steps).assign(**facts(provenance), previous_token_latency_ms=previous_latency(steps))


def _numbered_on(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Give requests and sessions of several datasets numbers of their own; warm-up stays -1."""
    numbered, next_request, next_session = [], 0, 0
    for frame in frames:
        request = frame[REQUEST].where(frame[REQUEST] < 0, frame[REQUEST] + next_request)
        numbered.append(frame.assign(request_id=request, session_id=frame["session_id"] + next_session))
        next_request, next_session = int(request.max()) + 1, int(numbered[-1]["session_id"].max()) + 1
    return numbered


def about_datasets(datasets: Sequence[Dataset], experiment: str) -> dict[str, Any]:
    """Return what is said of datasets: what they share once, what they differ in each."""
    described = [describe(dataset, experiment) for dataset in datasets]
    first = described[0]
    if len(described) == 1:
        return first
    joined = {
        name: " and ".join(dict.fromkeys(str(about[name]) for about in described))
        for name in ("model", "weights", "quantization", "engine", "prompt_set", "device", "dataset_key")
    }
    # Bytes and bandwidth are those of one model on one device.
    measurement = {**first["measurement"], "model": None, "memory_bandwidth_bytes_per_s": None}
    notices = list(dict.fromkeys(notice for about in described for notice in about["notices"]))
    is_stand_in = any(about["stand_in"] for about in described)
    return {**first, **joined, "stand_in": is_stand_in, "notices": notices, "measurement": measurement}


def _described(datasets: Sequence[Dataset], n_rows: int) -> dict[str, Any]:
    each: list[dict[str, Any]] = [
        {"key": one.key, "path": str(one.rows_dir.resolve()), "provenance": one.provenance}
        for one in datasets
    ]
    if len(each) == 1:
        return {**each[0], "n_rows": n_rows}
    return {"key": " and ".join(one["key"] for one in each), "n_rows": n_rows, "datasets": each}


def read_contrast(dataset: Dataset) -> pd.DataFrame | None:
    """Return the steps of the same measurement with the other engine, if it has been made."""
    identity = dataset.provenance["identity"]
    other = CONTRAST.get(identity["engine"]["name"])
    if other is None:
        return None
    engine = OmegaConf.to_container(OmegaConf.load(config_dir() / "engine" / f"{other}.yaml"))
    sibling = Dataset(dataset.folder.parent / key_of({**identity, "engine": engine}))
    is_there = sibling.folder.is_dir() and sibling.is_complete
    return one_row_a_step(sibling.read()) if is_there else None
