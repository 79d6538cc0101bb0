"""Token rows in parquet files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from large_rows import FEATURES, Opened, Stored

from llmlat.sources.parquet.database import Part
from llmlat.sources.parquet.source import Source, open_rows


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Return a function that writes rows to parquet files and returns them as a source."""

    def store(
        rows: pd.DataFrame,
        features: Sequence[str] = FEATURES,
        n_files: int = 3,
        derived: Mapping[str, str] | None = None,
        **places: Any,
    ) -> Source:
        for k, part in enumerate(np.array_split(np.arange(len(rows)), n_files)):
            rows.iloc[part].to_parquet(tmp_path / f"part-{k}.parquet", row_group_size=500)
        expressions = {name: name for name in features} | dict(derived or {})
        return Source([str(tmp_path / "part-*.parquet")], expressions, **places)

    return store


@pytest.fixture
def opened(stored: Stored) -> Opened:
    """Return a function that opens rows in parquet files."""

    @contextmanager
    def store_and_open(rows: pd.DataFrame, *args: Any, threads: int = 2, **kwargs: Any) -> Iterator[Part]:
        with open_rows(stored(rows, *args, **kwargs), 100, threads) as found:
            yield found

    return store_and_open
