"""Somebody's own table: thirty configurations of ten steps, and no column of ours."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llmlat.config import TableColumnsConfig, TableConfig


@pytest.fixture
def theirs() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    config = np.repeat(np.arange(30), 10)
    frame = pd.DataFrame(
        {
            "config": config,
            "size": generator.integers(10, 900, 30)[config],
            "step": np.tile(np.arange(10), 30),
            "kind": np.where(config % 2, "int8", "nf4"),
        }
    )
    noise = generator.normal(0, 0.3, len(frame))
    return frame.assign(
        took=20 + 0.01 * (frame["size"] + frame["step"]) + 2 * (frame["kind"] == "nf4") + noise
    )


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., TableConfig]:
    """Return a function that saves a frame, and returns the settings that name it."""

    def save(
        frame: pd.DataFrame,
        name: str = "theirs.csv",
        columns: dict[str, str] | None = None,
        **settings: object,
    ) -> TableConfig:
        path = tmp_path / name
        if name.endswith(".csv"):
            frame.to_csv(path, index=False)
        else:
            path.parent.mkdir(exist_ok=True)
            frame.to_parquet(path)
        told = {"path": str(path), "latency": "took", "group": ["config"], **settings}
        return TableConfig(**told, columns=TableColumnsConfig(**(columns or {})))  # type: ignore[arg-type]

    return save
