"""From tokens to steps: what was timed once counts once."""

import pandas as pd

from llmlat.steps import one_row_a_step


def test_rows_of_single_sequences_stay_as_they_are(make_rows):
    rows = make_rows([10, 200], tokens=5, warmup=3)
    pd.testing.assert_frame_equal(one_row_a_step(rows), rows)


def test_a_step_of_a_batch_is_one_row_of_its_longest_sequence(make_rows):
    longest = make_rows([30], tokens=6)
    shorter = longest.assign(
        sequence_index=1, prompt_tokens=10, context_length=longest["context_length"] - 20
    )
    # The shorter one ends early, and stands first.
    rows = pd.concat([shorter.iloc[:4], longest], ignore_index=True)
    pd.testing.assert_frame_equal(one_row_a_step(rows), longest, check_dtype=False)


def test_steps_of_two_sessions_are_told_apart(make_rows):
    first = make_rows([10], tokens=4)
    rows = pd.concat([first, first.assign(session_id=1, request_id=1)], ignore_index=True)
    assert len(one_row_a_step(rows)) == 8
