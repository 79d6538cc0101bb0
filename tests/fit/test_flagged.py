"""Doubtful rows are counted by reason, and left out only where that was asked for."""

import pytest

from llmlat.errors import DatasetError
from llmlat.fit.flagged import count_flags, without_flagged


@pytest.fixture
def rows(make_rows):
    rows = make_rows([10, 50], tokens=5)
    rows.loc[2, "flags"] = "throttled"
    rows.loc[3, "flags"] = "throttled;busy_cpu"
    return rows


def test_each_reason_is_counted_and_a_row_once(rows):
    assert count_flags(rows) == {"n_flagged": 2, "by_reason": {"throttled": 2, "busy_cpu": 1}}


def test_quiet_rows_have_no_reasons(make_rows):
    assert count_flags(make_rows([10], tokens=3)) == {"n_flagged": 0, "by_reason": {}}


def test_what_is_left_out_is_what_is_flagged(rows):
    assert without_flagged(rows)["token_index"].tolist() == [0, 1, 4, 0, 1, 2, 3, 4]


def test_nothing_left_is_said_in_a_line(rows):
    with pytest.raises(DatasetError, match=r"collect.flagged=exclude: all 10 rows .*busy_cpu"):
        without_flagged(rows.assign(flags="busy_cpu"))
