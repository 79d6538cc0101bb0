import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from large_rows import Stored, noisy_rows

from llmlat.errors import ConfigError, DatasetError
from llmlat.sources.parquet.source import Source, open_rows
from llmlat.steps import one_row_a_step


def test_without_duckdb_a_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'llmlat\[large\]'"),
        open_rows(Source(["x"], {}), 100),
    ):
        pass


def test_duckdb_is_loaded_by_opening_only() -> None:
    code = "import sys, llmlat.fit.large; sys.exit('duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"features": ["contxt_length"]},
            r'contxt_length cannot be made .*"contxt_length" not found.*they have ',
        ),
        ({"derived": {"work": "batch_size *"}}, "work cannot be made"),
        ({"latency": "latency_s * 1000"}, "the latency cannot be made"),
        ({"group": "session"}, "the group cannot be made"),
        ({"position": "token"}, "the position cannot be made"),
        ({"sequence": "sequence"}, "the sequence cannot be made"),
        ({"where": "NOT warmup"}, "the condition cannot be made"),
    ],
)
def test_what_the_files_lack_is_named_with_what_they_have(
    stored: Stored, settings: dict[str, object], says: str
) -> None:
    source = stored(noisy_rows(), **settings)
    with pytest.raises(ConfigError, match=says) as raised, open_rows(source, 100):
        pass
    assert "request_id, token_index, prompt_id" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_files(tmp_path: Path) -> None:
    source = Source([str(tmp_path / "it's*.parquet")], {})
    with (
        pytest.raises(DatasetError, match=r"No files found that match the pattern .*it's\*"),
        open_rows(source, 100),
    ):
        pass


def test_a_damaged_file(stored: Stored, tmp_path: Path) -> None:
    source = stored(noisy_rows())
    (tmp_path / "part-1.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DatasetError, match=r"part-1\.parquet"), open_rows(source, 100) as rows:
        rows.database.scan("SELECT sum(prompt_tokens) FROM counted")


def test_a_column_of_an_odd_name(stored: Stored) -> None:
    rows = noisy_rows().rename(columns={"batch_size": 'batch "size" of it'})
    source = stored(rows, ["prompt_tokens"], derived={'the "batch"': '"batch ""size"" of it"'})
    with open_rows(source, 100) as found:
        assert list(found.first(1)) == ["prompt_tokens", 'the "batch"', "token_latency_ms"]


def test_one_row_of_a_step_counts_as_in_memory(stored: Stored) -> None:
    generator = np.random.default_rng(2)
    sequences = []
    for request in range(40):
        for sequence in range(int(generator.integers(1, 5))):
            prompt, n_tokens = int(generator.choice([20, 50, 50, 80])), int(generator.integers(1, 12))
            rows = pd.DataFrame({"token_index": range(n_tokens)}).assign(
                request_id=request, sequence_index=sequence, prompt_tokens=prompt, is_warmup=request == 0
            )
            sequences.append(rows)
    rows = pd.concat(sequences, ignore_index=True)
    rows["context_length"] = rows["prompt_tokens"] + rows["token_index"]
    rows["completed_at_ns"] = 1000 * rows["request_id"] + rows["token_index"]
    rows["session_id"], rows["token_latency_ms"] = 0, 1.0 + rows["token_index"]
    expected = one_row_a_step(rows[~rows["is_warmup"]])
    columns = ["context_length", "sequence_index"]
    with open_rows(stored(rows, columns, sequence="sequence_index"), 100) as found:
        kept = found.database.frame(f"SELECT _group, _position, {found.selected} FROM counted ORDER BY ALL")
    assert 0 < (kept["sequence_index"] > 0).sum() < len(kept) < len(rows)
    expected = expected.sort_values(["request_id", "token_index"])
    np.testing.assert_array_equal(
        kept[["_group", "_position", *columns]], expected[["request_id", "token_index", *columns]]
    )
