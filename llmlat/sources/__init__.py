"""Where the rows of an analysis come from: one dataset, several together, or somebody's own table.

Each is read into the same frame, one row a step with the columns of `llmlat.records.KNOWN`, so that what
follows need not ask which it was.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from llmlat.sources.parquet.source import Source

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """Rows to fit on, and what is known of them.

    Attributes
    ----------
    steps : DataFrame
        One row a step.
    tokens : DataFrame
        One row a token.
    about : dict
        What was measured, in the words of metrics.json.
    described : dict
        The content of dataset.json.
    folder : Path or None
        The dataset's folder, where it is one.
    contrast : DataFrame or None
        Steps of the same measurement with the other engine, where they have been measured.
    source : Source or None
        Where all rows lie, where they are too many to be loaded and `steps` are some of them.
    """

    steps: pd.DataFrame
    tokens: pd.DataFrame
    about: dict[str, Any]
    described: dict[str, Any]
    folder: Path | None = None
    contrast: pd.DataFrame | None = field(default=None, repr=False)
    source: Source | None = None
