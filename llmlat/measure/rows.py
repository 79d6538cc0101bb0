"""From the marks of a request to its rows, after the fact: a row for each token that a step generated."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from llmlat.measure.frames import request_columns, typed_frame
from llmlat.measure.prompts import Request
from llmlat.measure.timers import StepTimes
from llmlat.records import DECODE, PREFILL, SERVED, TELEMETRY


def rows_of(
    request: Request, tokens: Sequence[Sequence[int | None]], n_steps: int, times: StepTimes
) -> pd.DataFrame:
    """Return the rows of a request, one sequence after the other.

    Tokens that one step generated share its latency. A sequence that ended early has no rows behind its end;
    one that is searched on has a row without a token for each step beyond.

    Parameters
    ----------
    request : Request
    tokens : sequence of sequences of int or None
        The tokens of each sequence.
    n_steps : int
        Steps that were completed.
    times : StepTimes

    Returns
    -------
    DataFrame
        Without the columns that a session knows; `completed_at_ns` is the monotonic clock's.
    """
    counts = [len(sequence) for sequence in tokens]
    sequence = np.repeat(np.arange(len(counts)), counts)
    step = np.concatenate([np.arange(0), *map(np.arange, counts)])
    prompt_tokens = np.array([len(prompt) for prompt in request.prompts])[sequence]
    return typed_frame(
        len(step),
        {
            **request_columns(request),
            "sequence_index": sequence,
            "prompt_id": np.array(request.prompt_ids, dtype=object)[sequence],
            "token_index": step,
            "phase": np.where(step == 0, PREFILL, DECODE),
            "prompt_tokens": prompt_tokens,
            "context_length": prompt_tokens + step,
            "padded_context_length": request.prompt_tokens + step,
            "batch_context_tokens": _batch_context_tokens(request, counts, n_steps)[step],
            "token_id": [token for sequence in tokens for token in sequence],
            "token_latency_ms": times.latency_ms[step],
            "device_latency_ms": times.device_ms[step],
            "completed_at_ns": times.marks_ns[1:][step],
            **{column.name: None for column in (*SERVED, *TELEMETRY)},
            "telemetry_age_ms": None,
            "flags": "",
        },
    )


def _batch_context_tokens(request: Request, counts: Sequence[int], n_steps: int) -> npt.NDArray[np.int64]:
    """Return how many tokens each step attends to: those of the sequences that are not at their end."""
    steps = np.arange(n_steps)
    attended = np.zeros(n_steps, dtype=np.int64)
    # Nothing at all where no step was completed: then there are no sequences.
    for prompt, count in zip(request.prompts, counts, strict=False):
        attended += np.where(steps < count, len(prompt) + steps, 0)
    return attended * request.cell.num_beams
