"""Somebody's own table: read as it is meant, and every bad column a line that names it and counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmlat.config import FeaturesConfig, SplitConfig, SplitName, TableConfig, TimeUnit
from llmlat.errors import ConfigError, DatasetError, LlmlatError
from llmlat.fit.fitting import build_pipeline
from llmlat.fit.results import Analysis, analyse
from llmlat.records import COLUMNS, FACTS
from llmlat.sources.again import reopened
from llmlat.sources.table import known_columns, rows_of_table

RIDGE = {"_target_": "sklearn.linear_model.Ridge"}
Save = Callable[..., TableConfig]
LENGTHS = {"context_length": "size + step", "prompt_tokens": "size"}


def analysed(
    table: TableConfig,
    columns: tuple[str, ...] = ("size", "step"),
    split: SplitName = SplitName.by_request,
    **derived: str,
) -> Analysis:
    pipeline = build_pipeline(RIDGE, FeaturesConfig(list(columns), derived), known_columns(table))
    rows = rows_of_table(table, "theirs")
    return analyse(rows.steps, pipeline, SplitConfig(split, 0.2, 0), rows.about)


@pytest.mark.parametrize("name", ["theirs.csv", "theirs.parquet", "folder/part-0.parquet"])
def test_csv_parquet_and_folders_say_the_same(
    theirs: pd.DataFrame, saved: Save, tmp_path: Path, name: str
) -> None:
    table = saved(theirs, name)
    if "/" in name:
        table.path = str(tmp_path / "folder")
    rows = rows_of_table(table, "theirs").steps
    np.testing.assert_allclose(rows["token_latency_ms"], theirs["took"])
    assert {column.name for column in (*COLUMNS, *FACTS)} <= set(rows.columns)
    assert rows["request_id"].tolist() == theirs["config"].tolist()
    assert set(theirs.columns) <= set(rows.columns), "their columns may be features"


@pytest.mark.parametrize(("unit", "ms"), [("s", 1e3), ("ms", 1.0), ("us", 1e-3), ("ns", 1e-6)])
def test_units(theirs: pd.DataFrame, saved: Save, unit: str, ms: float) -> None:
    rows = rows_of_table(saved(theirs.assign(took=theirs["took"] / ms), unit=TimeUnit(unit)), "theirs")
    np.testing.assert_allclose(rows.steps["token_latency_ms"], theirs["took"])
    assert rows.about["notices"] == []


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_wrong_unit_is_remarked_on(
    theirs: pd.DataFrame, saved: Save, unit: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of_table(
        saved(theirs.assign(took=theirs["took"] * (0.5 if unit == "us" else 1)), unit=TimeUnit(unit)),
        "theirs",
    )
    (notice,) = rows.about["notices"]
    assert notice.startswith(f"table.unit={unit}: the median of took would be ")
    assert notice in caplog.text


def test_columns_are_mapped_by_name_and_by_formula(theirs: pd.DataFrame, saved: Save) -> None:
    first = {"is_prefill": "step == 0", "quantization": "kind", "completed_at_ns": "config * 1000 + step"}
    rows = rows_of_table(saved(theirs, columns={**LENGTHS, **first}), "theirs").steps
    np.testing.assert_array_equal(rows["context_length"], theirs["size"] + theirs["step"])
    np.testing.assert_array_equal(rows["padded_context_length"], rows["context_length"])
    np.testing.assert_array_equal(rows["phase"] == "prefill", theirs["step"] == 0)
    np.testing.assert_array_equal(rows["quantization"], theirs["kind"])
    metrics = analysed(saved(theirs, columns={**LENGTHS, **first}), split=SplitName.by_time).metrics
    assert (metrics["source"], metrics["quantization"]) == ("table", "nf4 and int8")
    assert set(metrics["splits"]) >= {"by_time", "extrapolate", "leave_one_out:quantization"}
    assert set(metrics["calibration"]["by_phase"]) == {"prefill", "decode"}


def test_lengths_that_are_told_serve_our_own_features(theirs: pd.DataFrame, saved: Save) -> None:
    metrics = analysed(
        saved(theirs, columns=LENGTHS),
        ("prompt_tokens", "kv_bytes"),
        kv_bytes="kv_bytes_per_token * batch_context_tokens",
    ).metrics
    assert metrics["left_out"] == {"kv_bytes": "is missing in all 240 rows"}
    with pytest.raises(ConfigError, match="no column 'batch_context_tokens'"):
        analysed(saved(theirs), ("batch_context_tokens",))


def test_groups_are_not_divided(theirs: pd.DataFrame, saved: Save) -> None:
    found = analysed(saved(theirs, group=["size", "kind"]))
    train, test = found.train, found.predictions
    assert not set(train["request_id"]) & set(test["request_id"])
    for _, part in pd.concat([train, test]).groupby("request_id"):
        assert len(part[["size", "kind"]].drop_duplicates()) == 1


def test_without_a_group_rows_stand_alone_and_it_says_so(
    theirs: pd.DataFrame, saved: Save, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of_table(saved(theirs, group=[]), "theirs")
    assert rows.steps["request_id"].is_unique
    assert "every row is taken to be independent" in rows.about["notices"][0]
    assert "every row is taken to be independent" in caplog.text


def test_numbers_with_a_text_among_them_are_remarked_on(theirs: pd.DataFrame, saved: Save) -> None:
    broken = theirs.assign(size=theirs["size"].astype(str), hardware="h100")
    broken.loc[2, "size"] = "oops"
    (notice,) = rows_of_table(saved(broken), "theirs").about["notices"]
    assert "its column size is taken for texts, as 1 of " in notice
    assert "(such as oops)" in notice


def test_where_keeps_some(theirs: pd.DataFrame, saved: Save) -> None:
    rows = rows_of_table(saved(theirs, where="(kind == 'nf4') * (step > 0)"), "theirs").steps
    assert len(rows) == 15 * 9
    assert rows.index.equals(pd.RangeIndex(len(rows)))


def with_bad(theirs: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    return theirs.assign(**{column: theirs[column].astype(object).where(theirs.index > 3, value)})


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], dict[str, Any], str]] = {
    "zero": (lambda t: with_bad(t, "took", 0), {}, r"table\.latency=took: 0 or below in 4 of 300 rows"),
    "negative": (lambda t: with_bad(t, "took", -3), {}, r"table\.latency=took: 0 or below in 4 of 300 rows"),
    "missing": (lambda t: with_bad(t, "took", None), {}, r"table\.latency=took: missing in 4 of 300 rows"),
    "infinite": (lambda t: with_bad(t, "took", np.inf), {}, r"table\.latency=took: infinite in 4 of 300"),
    "text": (lambda t: with_bad(t, "took", "n/a?"), {}, r"table\.latency=took: it holds texts"),
    "no latency": (
        lambda t: t,
        {"latency": None},
        r"table\.latency: name the column to predict; there are config",
    ),
    "other latency": (
        lambda t: t,
        {"latency": "tok"},
        r"table\.latency=tok: no such column; there are config",
    ),
    "other group": (lambda t: t, {"group": ["x"]}, r"table\.group=x: no such column"),
    "no rows": (lambda t: t.iloc[:0], {}, r"table\.path=.*: it holds no rows"),
    "mapped missing": (
        lambda t: with_bad(t, "size", None),
        {"columns": {"context_length": "size"}},
        r"table\.columns\.context_length=size: missing in 4 of 300 rows",
    ),
    "mapped infinite": (
        lambda t: t,
        {"columns": {"context_length": "1 / step"}},
        r"table\.columns\.context_length=1 / step: infinite in 30 of 300 rows",
    ),
    "mapped text": (
        lambda t: t,
        {"columns": {"batch_size": "kind"}},
        r"table\.columns\.batch_size=kind: it holds texts",
    ),
    "mapped other": (
        lambda t: t,
        {"columns": {"batch_size": "bs + 1"}},
        r"table\.columns\.batch_size=bs \+ 1: there is no column bs; there are config",
    ),
    "mapped no formula": (
        lambda t: t,
        {"columns": {"batch_size": "a.b"}},
        r"table\.columns\.batch_size: 'a\.b': Attr",
    ),
    "mapped sum of texts": (
        lambda t: t,
        {"columns": {"batch_size": "kind + 1"}},
        r"table\.columns\.batch_size: 'kind \+ 1': cannot be worked out",
    ),
    "mapped from the latency": (
        lambda t: t,
        {"columns": {"context_length": "took * 2"}},
        r"table\.columns\.context_length=took \* 2: it reads took, which is what is to be predicted",
    ),
    "where nothing": (
        lambda t: t,
        {"where": "size > 1e9"},
        r"table\.where=size > 1e9: it keeps none of 300 rows",
    ),
    "where no formula": (lambda t: t, {"where": "size >"}, r"table\.where: 'size >' is no formula"),
    "where a text": (lambda t: t, {"where": "kind"}, r"table\.where=kind: it holds texts; compare them"),
    "our name, texts": (
        lambda t: t.assign(batch_size="one"),
        {},
        r"table\.path: its column batch_size holds texts",
    ),
    "our name, numbers": (lambda t: t.assign(flags=1), {}, r"table\.path: its column flags holds numbers"),
    "our name, gaps": (
        lambda t: t.assign(prompt_tokens=np.nan),
        {},
        r"table\.path: its column prompt_tokens: missing in 300 of 300 rows",
    ),
    "one group": (lambda t: t.assign(config=1), {}, r"split=by_request: 1 requests are too few"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_one_line(theirs: pd.DataFrame, saved: Save, case: str) -> None:
    spoil, settings, complaint = BAD[case]
    with pytest.raises(LlmlatError, match=f"^{complaint}") as caught:
        analysed(saved(spoil(theirs), **settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\x00\x01", "a,b\n1,2,3\n4,5,6,7\n"])
def test_what_is_no_table(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(LlmlatError, match=r"^table\.\w+") as caught:
        rows_of_table(TableConfig(path=str(tmp_path / "x.csv"), latency="t"), "")
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(DatasetError, match=r"^table\.path=.*: there is no such file\."):
            rows_of_table(TableConfig(path=str(tmp_path / name), latency="t"), "")


def test_the_latency_is_no_feature_by_any_name(theirs: pd.DataFrame, saved: Save) -> None:
    for columns, derived in ((("took",), {}), (("hidden",), {"hidden": "took + 0 * size"})):
        with pytest.raises(ConfigError, match=r"^features\.columns: took is known only after the step"):
            analysed(saved(theirs), columns, **derived)
    twice = saved(theirs.assign(token_latency_ms=theirs["took"]))
    with pytest.raises(ConfigError, match=r"^features\.columns: token_latency_ms is known only after"):
        analysed(twice, ("token_latency_ms",))


def test_flags_and_warmup_of_theirs_are_read_as_ours(theirs: pd.DataFrame, saved: Save) -> None:
    metrics = analysed(saved(theirs.assign(is_warmup=(theirs["step"] == 0).astype(int)))).metrics
    assert (metrics["n_warmup"], metrics["n_events"]) == (30, 270)


def test_the_order_of_rows_is_no_time(theirs: pd.DataFrame, saved: Save) -> None:
    with pytest.raises(ConfigError, match=r"^split=by_time: the rows do not tell when"):
        analysed(saved(theirs), split=SplitName.by_time)
    metrics = analysed(saved(theirs)).metrics
    assert "by_time" not in metrics["splits"]
    assert set(metrics["baselines"]) == {"mean", "median"}


def test_few_groups_make_fewer_folds(theirs: pd.DataFrame, saved: Save) -> None:
    metrics = analysed(saved(theirs.assign(config=theirs["config"] % 4))).metrics
    assert metrics["validation"]["n_folds"] == 3
    assert metrics["calibration"]["by_phase"]["decode"]["levels"]["0.9"] is None


def test_it_is_opened_again_from_anywhere(
    theirs: pd.DataFrame, saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = saved(theirs, columns=LENGTHS, where="step > 0")
    monkeypatch.chdir(tmp_path)
    table.path = "theirs.csv"
    rows = rows_of_table(table, "theirs")
    monkeypatch.chdir("/")
    pd.testing.assert_frame_equal(reopened(rows.described).steps, rows.steps)


def test_its_key_is_its_content_and_its_settings(theirs: pd.DataFrame, saved: Save) -> None:
    def key(frame: pd.DataFrame, **settings: Any) -> Any:
        return rows_of_table(saved(frame, **settings), "").described["key"]

    assert key(theirs) == key(theirs)
    assert len({key(theirs), key(theirs.iloc[:-1]), key(theirs, where="step > 0")}) == 3
