"""Rows to numbers: texts, gaps and columns that tell nothing, the same when predicting as when fitting."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from llmlat.fit.features.table import FeatureError, FeatureTable


def test_numbers_pass_and_formulas_are_worked_out(frame: pd.DataFrame) -> None:
    table = FeatureTable(["n", "twice"], {"twice": "n * 2", "unused": "nothing + 1"}).fit(frame)
    found = table.transform(frame)
    assert list(found.columns) == ["n", "twice"] == list(table.get_feature_names_out())
    np.testing.assert_array_equal(found["twice"], [2, 4, 6, 8])
    assert table.inputs() == ["n"]
    assert table.formulas() == {"n": "n", "twice": "twice"}


def test_a_text_is_a_column_for_each_value_but_the_first(frame: pd.DataFrame) -> None:
    table = FeatureTable(["text", "n"]).fit(frame)
    found = table.transform(frame)
    assert list(found.columns) == ["text=b", "text=c", "n"]
    np.testing.assert_array_equal(found[["text=b", "text=c"]], [[1, 0], [0, 0], [1, 0], [0, 1]])
    assert table.formulas()["text=b"] == "text == 'b'"
    other = table.transform(pd.DataFrame({"text": ["c", "never seen"], "n": 1}, index=[5, 9]))
    np.testing.assert_array_equal(other[["text=b", "text=c"]], [[0, 1], [0, 0]])
    assert list(other.index) == [5, 9]


def test_a_gap_is_filled_with_the_median_of_the_fit(frame: pd.DataFrame) -> None:
    table = FeatureTable(["gap"]).fit(frame)
    np.testing.assert_array_equal(table.transform(frame)["gap"], [10, 20, 90, 20])
    np.testing.assert_array_equal(table.transform(pd.DataFrame({"gap": [np.nan, 99.0]}))["gap"], [20, 99])
    unfilled = FeatureTable(["gap"], fills=False).fit(frame).transform(frame)
    assert unfilled["gap"].isna().tolist() == [False, True, False, False]


def test_what_tells_nothing_is_left_out_with_its_reason_and_count(frame: pd.DataFrame) -> None:
    table = FeatureTable(["n", "empty", "same", "one", "text"]).fit(frame)
    assert table.left_out_ == {
        "empty": "is missing in all 4 rows",
        "same": "is 7 in all 4 rows that have it",
        "one": "is x in all 4 rows",
    }
    telling = dict(zip(table.feature_names_out_, table.telling_, strict=True))
    assert telling == {"n": True, "empty": False, "same": False, "text=b": True, "text=c": True}
    assert set(table.formulas()) == {"n", "text=b", "text=c"}
    assert np.isfinite(table.transform(frame)).all(axis=None)


def test_without_any_telling_feature_it_says_each_reason(frame: pd.DataFrame) -> None:
    with pytest.raises(
        FeatureError, match=r"^no feature is left of 4 rows: same is 7 in .*; one is x in all"
    ):
        FeatureTable(["same", "one"]).fit(frame)


@pytest.mark.parametrize("when", ["fitting", "predicting"])
@pytest.mark.parametrize(
    ("columns", "complaint"),
    [(["n"], "n is infinite in 2 of 4 rows"), (["inverse"], "inverse is infinite in 2 of 4 rows")],
)
def test_infinite_values_are_named_and_counted(
    frame: pd.DataFrame, when: str, columns: list[str], complaint: str
) -> None:
    derived = {"inverse": "1 / n"}
    value = 0.0 if columns == ["inverse"] else np.inf
    bad = frame.assign(n=[1.0, value, value, 2.0])
    table = FeatureTable(columns, derived)
    refuses = table.fit if when == "fitting" else table.fit(frame).transform
    with pytest.raises(FeatureError, match=f"^{complaint}$"):
        refuses(bad)


def test_a_column_that_is_not_there_is_named(frame: pd.DataFrame) -> None:
    table = FeatureTable(["twice"], {"twice": "n * 2"})
    with pytest.raises(FeatureError, match="no column 'n'"):
        table.fit(frame.drop(columns="n"))
    with pytest.raises(FeatureError, match="no column 'n'"):
        table.fit(frame).transform(frame.drop(columns="n"))


def test_it_is_cloned_like_any_estimator(frame: pd.DataFrame) -> None:
    table = FeatureTable(["n", "c"], {"c": "n + gap"}, fills=False)
    assert clone(table).get_params() == table.get_params()
    assert clone(table.fit(frame)).inputs() == ["n", "gap"]


def test_one_row_is_as_many(frame: pd.DataFrame) -> None:
    table = FeatureTable(["text", "gap", "sum"], {"sum": "n + gap"}).fit(frame)
    whole = table.transform(frame)
    singly = pd.concat([table.transform(frame.iloc[k : k + 1]) for k in range(4)])
    pd.testing.assert_frame_equal(whole, singly)
