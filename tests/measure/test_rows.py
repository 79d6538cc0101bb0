"""What rows say about batches, beams and early ends."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from llmlat.measure.cells import Cell
from llmlat.measure.rows import rows_of
from llmlat.measure.timers import StepTimes
from llmlat.records import SCHEMA

RAGGED = (10, 7, 12)
CELL = Cell("eager")


def times(n_steps: int) -> StepTimes:
    """Return steps of 10, 11, 12 ms and so on."""
    gaps = (10 + np.arange(n_steps)) * 10**6
    return StepTimes(np.concatenate([[5], 5 + gaps.cumsum()]), np.full(n_steps, np.nan))


def rows(batch_of, tokens, n_steps, cell=CELL):
    return rows_of(batch_of(RAGGED, cell, max_new_tokens=4), tokens, n_steps, times(n_steps))


def by_sequence(frame: pd.DataFrame, column: str) -> list[list[object]]:
    return [part.tolist() for _, part in frame.groupby("sequence_index")[column]]


def test_a_ragged_batch_has_a_row_for_each_sequence_and_step(batch_of):
    frame = rows(batch_of, [[21, 22, 23], [31, 32, 33], [41, 42, 43]], 3)
    assert by_sequence(frame, "token_id") == [[21, 22, 23], [31, 32, 33], [41, 42, 43]]
    assert by_sequence(frame, "token_index") == [[0, 1, 2]] * 3
    assert by_sequence(frame, "phase") == [["prefill", "decode", "decode"]] * 3
    assert by_sequence(frame, "prompt_id") == [[f"prompt-{i}"] * 3 for i in range(3)]
    assert by_sequence(frame, "prompt_tokens") == [[10] * 3, [7] * 3, [12] * 3]
    assert by_sequence(frame, "context_length") == [[10, 11, 12], [7, 8, 9], [12, 13, 14]]
    assert by_sequence(frame, "padded_context_length") == [[12, 13, 14]] * 3
    assert by_sequence(frame, "batch_context_tokens") == [[29, 32, 35]] * 3
    assert set(frame["batch_size"]) == {3}


def test_tokens_of_a_step_share_its_latency(batch_of):
    frame = rows(batch_of, [[1, 2], [1], [1, 2]], 2)
    assert by_sequence(frame, "token_latency_ms") == [[10, 11], [10], [10, 11]]
    assert by_sequence(frame, "completed_at_ns") == [
        [10_000_005, 21_000_005],
        [10_000_005],
        [10_000_005, 21_000_005],
    ]


def test_a_sequence_at_its_end_has_no_more_rows_and_is_not_counted(batch_of):
    frame = rows(batch_of, [[1, 2], [1], [1, 2, 3, 4]], 4)
    assert by_sequence(frame, "token_index") == [[0, 1], [0], [0, 1, 2, 3]]
    # 10 + 7 + 12, then 11 + 13, then the last alone; the padding stays as long as the longest prompt.
    assert by_sequence(frame, "batch_context_tokens") == [[29, 24], [29], [29, 24, 14, 15]]
    assert by_sequence(frame, "padded_context_length") == [[12, 13], [12], [12, 13, 14, 15]]


def test_beams_multiply_what_a_step_attends_to(batch_of):
    cell = Cell("eager", num_beams=4)
    frame = rows(batch_of, [[1, 2, 3], [1, None, None], [1, 2, None]], 3, cell)
    # A search goes on beyond the end of its best sequence, and attends to as much.
    assert by_sequence(frame, "batch_context_tokens") == [[29 * 4, 32 * 4, 35 * 4]] * 3
    assert by_sequence(frame, "context_length") == [[10, 11, 12], [7, 8, 9], [12, 13, 14]]
    assert frame["token_id"].isna().tolist() == [False] * 4 + [True, True] + [False, False, True]
    assert set(frame["num_beams"]) == {4}


SETTINGS = {"batch_size": 3, "num_beams": 1, "temperature": 0.7, "top_k": 40, "top_p": 0.9}


def test_rows_carry_the_settings(batch_of):
    frame = rows(batch_of, [[1]] * 3, 1, Cell("mine", temperature=0.7, top_k=40, top_p=0.9))
    assert set(frame["engine"]) == {"mine"}
    assert {name: set(frame[name]) for name in SETTINGS} == {
        name: {value} for name, value in SETTINGS.items()
    }


@pytest.mark.parametrize("tokens", [[], [[], [], []]])
def test_a_request_without_a_step_has_no_rows(batch_of, tokens):
    frame = rows(batch_of, tokens, 0)
    assert frame.empty
    assert frame["token_index"].dtype == np.int32


@pytest.mark.parametrize(
    ("tokens", "n_steps"), [([], 0), ([[1, 2], [1], [1, 2]], 2), ([[1, None], [1, 2], [1, 2]], 2)]
)
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 40, "top_p": 0.9}])
def test_columns_have_the_types_of_the_schema(batch_of, tokens, n_steps, settings):
    frame = rows(batch_of, tokens, n_steps, Cell("eager", **settings))
    here = pa.schema([field for field in SCHEMA if field.name in frame.columns])
    inferred = pa.Table.from_pandas(frame, preserve_index=False).select(here.names).schema
    assert [str(kind).removeprefix("large_") for kind in inferred.types] == list(map(str, here.types))
    written = pa.Table.from_pandas(frame, schema=here, preserve_index=False)
    assert written["token_id"].to_pylist() == [token for sequence in tokens for token in sequence]
    assert written["top_k"].to_pylist() == [settings.get("top_k")] * len(frame)
    for field in here:
        assert field.nullable or written[field.name].null_count == 0


def test_requests_of_different_settings_go_into_one_frame(batch_of):
    frames = [
        rows(batch_of, [[1, None]] * 3, 2, Cell("eager", **s)) for s in ({}, {"temperature": 1.0, "top_k": 4})
    ]
    together = pd.concat([*frames, rows(batch_of, [], 0)], ignore_index=True)
    assert (together.dtypes == frames[0].dtypes).all()
    assert together["top_k"].isna().tolist() == [True] * 6 + [False] * 6
