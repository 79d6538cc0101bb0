"""From the marks of a request to its rows, after the fact: a row for each token that a step generated."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llmlat.measure.prompts import Request
from llmlat.measure.timers import StepTimes
from llmlat.records import COLUMNS, DECODE, PREFILL, TELEMETRY

WARMUP_REQUEST_ID = -1


def rows_of(
    request: Request, tokens: Sequence[Sequence[int]], n_steps: int, times: StepTimes
) -> pd.DataFrame:
    """Return the rows of a request, one sequence after the other.

    Tokens that one step generated share its latency. A sequence that ended early has no rows behind its end.

    Parameters
    ----------
    request : Request
    tokens : sequence of sequences of int
        The tokens of each sequence.
    n_steps : int
        Steps that were completed.
    times : StepTimes

    Returns
    -------
    DataFrame
        Without the columns that a session knows; `completed_at_ns` is the monotonic clock's.
    """
    lengths = np.array([len(prompt) for prompt in request.prompts])
    cell = request.cell
    # A step attends, in each sequence that is not at its end, to the prompt and the tokens before.
    is_going = np.array([np.arange(n_steps) < len(sequence) for sequence in tokens]).reshape(-1, n_steps)
    attended = (lengths[:, None] + np.arange(n_steps)) * is_going
    batch_context = attended.sum(axis=0) * cell.num_beams
    parts = []
    for index, sequence in enumerate(tokens):
        step = np.arange(len(sequence))
        columns = {
            "request_id": request.request_id,
            "sequence_index": index,
            "prompt_id": request.prompt_ids[index],
            "repetition": request.repetition,
            "engine": cell.engine,
            "batch_size": cell.batch_size,
            "num_beams": cell.num_beams,
            "temperature": cell.temperature,
            "top_k": cell.top_k,
            "top_p": cell.top_p,
            "is_warmup": request.request_id == WARMUP_REQUEST_ID,
            "token_index": step,
            "phase": np.where(step == 0, PREFILL, DECODE),
            "prompt_tokens": lengths[index],
            "context_length": lengths[index] + step,
            "padded_context_length": request.prompt_tokens + step,
            "batch_context_tokens": batch_context[step],
            "token_id": list(sequence),
            "token_latency_ms": times.latency_ms[step],
            "device_latency_ms": times.device_ms[step],
            "completed_at_ns": times.marks_ns[1:][step],
            **{column.name: None for column in TELEMETRY},
            "telemetry_age_ms": None,
            "flags": "",
        }
        parts.append(pd.DataFrame(columns, index=pd.RangeIndex(len(sequence))))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[c.name for c in COLUMNS])
