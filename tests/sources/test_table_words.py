"""What a table leaves out, and what it cannot be, is met at the door."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from llmlat.config import Config, TableConfig, TimeUnit
from llmlat.errors import ConfigError
from llmlat.pipeline import run
from llmlat.records import PROMPT, REQUEST
from llmlat.sources import table as room
from llmlat.sources.table import known_columns, rows_of_table

Save = Callable[..., TableConfig]


@pytest.mark.parametrize("name", ["theirs.parquet", "theirs.csv"])
def test_a_text_that_is_missing_is_a_text(theirs: pd.DataFrame, saved: Save, name: str) -> None:
    kind = theirs["kind"].where(theirs["config"] % 3 > 0)
    rows = rows_of_table(saved(theirs.assign(kind=kind), name), "t").steps
    assert set(rows["kind"]) == {"nf4", "int8", "nan"}


def test_groups_of_one_name_stay_two(theirs: pd.DataFrame, saved: Save) -> None:
    is_one = theirs["config"] < 15
    two = theirs.assign(a=np.where(is_one, "x y", "x"), b=np.where(is_one, "z", "y z"))
    rows = rows_of_table(saved(two, group=["a", "b"]), "t").steps
    assert rows[REQUEST].nunique() == rows[PROMPT].nunique() == 2


def test_a_wrong_name_is_found_before_all_rows_are_read(
    theirs: pd.DataFrame, saved: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "read_table", lambda table: pytest.fail("all rows were read"))
    with pytest.raises(ConfigError, match=r"^table.latency=nothing: no such column; there are config, size"):
        known_columns(saved(theirs, latency="nothing"))


def test_a_column_of_structures_is_named_as_one(theirs: pd.DataFrame, saved: Save) -> None:
    table = saved(theirs.assign(meta=[{"a": 1}] * len(theirs)), "theirs.parquet", group=["meta"])
    with pytest.raises(ConfigError, match=r"^table.group=meta: it holds neither numbers nor texts"):
        known_columns(table)


def test_a_table_that_changed_is_read_again(theirs: pd.DataFrame, saved: Save) -> None:
    before = rows_of_table(saved(theirs), "t").steps["token_latency_ms"]
    after = rows_of_table(saved(theirs.assign(took=theirs["took"] * 1000)), "t").steps["token_latency_ms"]
    np.testing.assert_allclose(after, before * 1000)


def test_a_table_without_a_path_is_refused(compose: Callable[..., Config], tmp_path) -> None:
    settings = compose("table=file")
    assert settings.table.unit is TimeUnit.ms
    with pytest.raises(ConfigError, match=r"^table.path: it is not set"):
        run(settings, {}, tmp_path)
