"""Doubtful rows: counted, told apart, and left out of the fit where that was asked for."""

from typing import Any

import pandas as pd

from llmlat.errors import DatasetError
from llmlat.records import FLAG_SEPARATOR, FLAGS


def count_flags(rows: pd.DataFrame) -> dict[str, Any]:
    """Return how many rows are doubtful, and why.

    Parameters
    ----------
    rows : DataFrame
        Counted rows, one a step.

    Returns
    -------
    dict
        `n_flagged`; `by_reason`, the number of rows for each word of `llmlat.records.FLAGS` that occurs (a
        row may have several).
    """
    reasons = rows["flags"].str.split(FLAG_SEPARATOR).explode()
    counts = reasons[reasons != ""].value_counts()
    return {
        "n_flagged": int((rows["flags"] != "").sum()),
        "by_reason": {reason: int(counts[reason]) for reason in FLAGS if reason in counts},
    }


def without_flagged(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that nothing speaks against.

    Raises
    ------
    DatasetError
        Where none is left.
    """
    kept = rows[rows["flags"] == ""]
    if kept.empty:
        why = ", ".join(count_flags(rows)["by_reason"])
        raise DatasetError(
            f"collect.flagged=exclude: all {len(rows)} rows are flagged ({why}); measure on a quiet machine, "
            "or fit them all with collect.flagged=keep."
        )
    return kept.reset_index(drop=True)
