"""The rows of an earlier run, by what its dataset.json says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmlat.config import TableColumnsConfig, TableConfig, TimeUnit
from llmlat.dataset import Dataset
from llmlat.sources import Rows
from llmlat.sources.datasets import rows_of
from llmlat.sources.table import rows_of_table


def reopened(described: Mapping[str, Any]) -> Rows:
    """Return the rows of a run, from where they lay then.

    Parameters
    ----------
    described : mapping
        The content of dataset.json.

    Raises
    ------
    LlmlatError
        Where they cannot be read any more.
    KeyError
        Where it is no such content.
    """
    table = (described.get("provenance") or {}).get("table")
    if table is not None:
        columns = TableColumnsConfig(**table["columns"])
        told = {**table, "columns": columns, "path": described["path"], "unit": TimeUnit(table["unit"])}
        return rows_of_table(TableConfig(**told), "")
    each = described.get("datasets", [described])
    return rows_of([Dataset(Path(one["path"]).parent) for one in each], "")
