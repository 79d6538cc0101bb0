"""Columns of a table whose types, or names, llmlat has not made."""

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmlat.config import TableConfig
from llmlat.errors import ConfigError, DatasetError
from llmlat.sources.table import known_columns, rows_of_table

Save = Callable[..., TableConfig]


def test_a_column_is_of_the_type_of_the_rows_that_are_kept(theirs: pd.DataFrame, saved: Save) -> None:
    broken = theirs.assign(size=theirs["size"].astype(object))
    broken.loc[0, "size"] = "error"
    table = saved(broken, where="step > 0")
    assert not known_columns(table)["size"].is_text
    assert rows_of_table(table, "t").steps["size"].dtype.kind == "i"
    assert known_columns(saved(broken))["size"].is_text


@pytest.mark.parametrize("name", ["theirs.parquet", "theirs.csv"])
def test_their_own_places_stay(theirs: pd.DataFrame, saved: Save, name: str) -> None:
    phase = np.where(theirs["step"] == 0, "prefill", "decode")
    own = theirs.assign(
        token_index=theirs["step"] + 7, phase=phase, padded_context_length=99, batch_context_tokens=5
    )
    rows = rows_of_table(saved(own, name), "t").steps
    for column in ("token_index", "phase", "padded_context_length", "batch_context_tokens"):
        assert rows[column].tolist() == own[column].tolist(), column


def test_a_phase_of_other_words_is_refused(theirs: pd.DataFrame, saved: Save) -> None:
    with pytest.raises(ConfigError, match=r"its column phase holds 'warm', .*; rename it"):
        rows_of_table(saved(theirs.assign(phase="warm")), "t")


def test_what_is_mapped_wins_over_their_own(theirs: pd.DataFrame, saved: Save) -> None:
    own = theirs.assign(phase="text of any kind")
    rows = rows_of_table(saved(own, columns={"is_prefill": "step == 0"}), "t").steps
    assert (rows["phase"] == "prefill").tolist() == (theirs["step"] == 0).tolist()
    assert rows["is_prefill"].tolist() == (theirs["step"] == 0).tolist()


def test_a_latency_that_is_a_duration_knows_its_unit(theirs: pd.DataFrame, saved: Save) -> None:
    own = theirs.assign(took=pd.to_timedelta(theirs["took"], unit="ms"))
    rows = rows_of_table(saved(own, "theirs.parquet"), "t").steps
    np.testing.assert_allclose(rows["token_latency_ms"], theirs["took"], rtol=1e-4)


def test_moments_are_nanoseconds(theirs: pd.DataFrame, saved: Save) -> None:
    when = pd.date_range("2024-01-01", periods=len(theirs), freq="s", tz="Europe/Berlin")
    table = saved(theirs.assign(when=when), "theirs.parquet", columns={"completed_at_ns": "when"})
    rows = rows_of_table(table, "t").steps
    assert rows["completed_at_ns"].tolist() == when.tz_convert("UTC").as_unit("ns").asi8.tolist()


@pytest.mark.parametrize(
    ("value", "is_known"),
    [
        (decimal.Decimal("4"), True),
        (datetime.date(2024, 1, 1), True),
        ([1, 2], False),
        ({"a": 1}, False),
        (b"x", False),
    ],
    ids=str,
)
def test_what_can_be_no_feature_is_left_out(
    theirs: pd.DataFrame, saved: Save, value: Any, is_known: bool
) -> None:
    table = saved(theirs.assign(odd=[value] * len(theirs)), "theirs.parquet")
    assert ("odd" in known_columns(table)) is is_known
    assert len(rows_of_table(table, "t").steps) == len(theirs)


def test_missing_texts_and_groups_have_a_word(theirs: pd.DataFrame, saved: Save) -> None:
    kind = theirs["kind"].mask(theirs["config"] == 3)
    table = saved(theirs.assign(kind=kind), columns={"quantization": "kind"}, group=["config", "kind"])
    rows = rows_of_table(table, "t").steps
    assert set(rows["quantization"]) == {"nf4", "int8", "not told"}
    assert rows["prompt_id"].map(type).eq(str).all()
    assert rows["request_id"].nunique() == 30


@pytest.mark.parametrize("name", ["GPU type", "gpu.name", "class", "self", "level", "outside", "maximum"])
def test_any_name_can_be_a_column(theirs: pd.DataFrame, saved: Save, name: str) -> None:
    own = theirs.rename(columns={"kind": name})
    table = saved(own, where=f"column({name!r}) == 'int8'", columns={"quantization": name})
    rows = rows_of_table(table, "t").steps
    assert set(rows["quantization"]) == {"int8"}
    assert len(rows) == (theirs["kind"] == "int8").sum()


def test_folders_tell_columns_in_their_names_and_hold_other_files(
    theirs: pd.DataFrame, saved: Save, tmp_path: Path
) -> None:
    theirs.to_parquet(tmp_path / "hive", partition_cols=["kind"], index=False)
    (tmp_path / "hive" / "README.md").write_text("measured in May")
    table = saved(theirs)
    table.path = str(tmp_path / "hive")
    rows = rows_of_table(table, "t").steps
    assert rows["kind"].value_counts().to_dict() == theirs["kind"].value_counts().to_dict()


def test_a_folder_of_csvs_is_one_table(theirs: pd.DataFrame, saved: Save, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for config, part in theirs.groupby("config"):
        part.to_csv(folder / f"{config:02}.csv", index=False)
    table = saved(theirs)
    table.path = str(folder)
    assert rows_of_table(table, "t").steps["took"].sum() == pytest.approx(theirs["took"].sum())


def test_an_empty_folder_is_one_line(theirs: pd.DataFrame, saved: Save, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    table = saved(theirs)
    table.path = str(tmp_path / "nothing")
    with pytest.raises(DatasetError, match="holds neither parquet nor CSV"):
        known_columns(table)
