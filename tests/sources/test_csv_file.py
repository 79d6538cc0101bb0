"""CSVs as people have them: each says the same as the plain one does."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmlat.sources.csv_file import read_csv

PLAIN = {"model": ["a b", "c"], "n": [1, 2], "ms": [1.5, 2.25]}


def written(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "theirs.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("model,n,ms\na b,1,1.5\nc,2,2.25\n", "utf-8"),
        ("model,n,ms\r\na b,1,1.5\r\nc,2,2.25\r\n", "utf-8-sig"),
        ("model;n;ms\na b;1;1,5\nc;2;2,25\n", "utf-8"),
        ("model\tn\tms\na b\t1\t1.5\nc\t2\t2.25\n", "utf-16"),
        ("model|n|ms\na b|1|1.5\nc|2|2.25\n", "latin-1"),
        (" model, n, ms\n a b, 1, 1.5\n c, 2, 2.25\n", "utf-8"),
        ("# vllm; of today\n# host: a\nmodel,n,ms\na b,1,1.5\nc,2,2.25\n", "utf-8"),
        ('"model","n","ms"\n"a b","1","1.5"\n"c","2","2.25"\n', "utf-8"),
    ],
)
def test_whatever_the_separator_and_the_encoding(tmp_path: Path, text: str, encoding: str) -> None:
    rows = read_csv(written(tmp_path, text, encoding))
    pd.testing.assert_frame_equal(rows, pd.DataFrame(PLAIN), check_dtype=False)
    assert rows["n"].dtype == "int64"


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,280", "12"], [1280, 12]),
        (["1,280.5", "2"], [1280.5, 2.0]),
        (["N/A", "3"], [None, 3.0]),
        (["None", "3"], [None, 3.0]),
        (["", "3"], [None, 3.0]),
        (["true", "False"], [True, False]),
        (["9007199254740993", "1"], [9007199254740993, 1]),
    ],
)
def test_numbers_are_numbers_however_they_are_spelled(
    tmp_path: Path, cells: list[str], values: list[Any]
) -> None:
    rows = read_csv(written(tmp_path, "x,y\n" + "".join(f'"{cell}",1\n' for cell in cells)))
    assert pd.api.types.is_numeric_dtype(rows["x"])
    assert [None if pd.isna(value) else value for value in rows["x"].tolist()] == values


@pytest.mark.parametrize("cells", [["None", "int8"], ["NA", "EU"], ["v1", "2"], ["1,28", "x"]])
def test_texts_stay_as_they_stand(tmp_path: Path, cells: list[str]) -> None:
    rows = read_csv(written(tmp_path, "x,y\n" + "".join(f'"{cell}",1\n' for cell in cells)))
    assert rows["x"].tolist() == cells


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two of its columns are named 'n'"):
        read_csv(written(tmp_path, "n,n ,ms\n1,2,3\n"))
