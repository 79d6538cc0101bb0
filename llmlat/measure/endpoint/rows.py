"""From an answer to its rows: a row for each token, and one latency for those that arrived together."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmlat.measure.endpoint.answers import Answer
from llmlat.measure.endpoint.exchange import Exchange
from llmlat.measure.frames import request_columns, typed_frame
from llmlat.measure.prompts import Request
from llmlat.records import COLUMN, DECODE, FLAG_SEPARATOR, PREFILL, TELEMETRY

UNKNOWN = ("padded_context_length", "batch_context_tokens", "device_latency_ms")
"""What only the engine could tell."""
SOMETIMES_TOLD = ("token_id", "tokens_in_chunk", "cached_prompt_tokens")


@dataclass
class RowMaker:
    """Makes the rows of one session.

    Attributes
    ----------
    session_id : int
    epoch_offset_ns : int
        From the exchanges' clock to the rows'.
    """

    session_id: int
    epoch_offset_ns: int

    def __post_init__(self) -> None:
        self._n_requests = 0
        self._told: set[str] = set()
        self._visited: set[tuple[str, str, int]] = set()

    def rows(self, request: Request, exchange: Exchange, answer: Answer, prompt_tokens: int) -> pd.DataFrame:
        """Return the rows of a request.

        The first latency begins when the request was sent, each further one with the arrival of the tokens
        before, so they add up to the request's time; chunks without a token are no steps.

        Parameters
        ----------
        request : Request
        exchange : Exchange
        answer : Answer
            What is read in the exchange.
        prompt_tokens : int
        """
        arrivals = np.array(answer.arrivals, dtype=np.int64)
        counts = np.array(answer.n_tokens, dtype=np.int64)
        step = np.repeat(np.arange(len(arrivals)), counts)
        token = np.arange(len(step))
        arrived_ns = np.array(exchange.arrival_ns, dtype=np.int64)[arrivals]
        begun_ns = np.concatenate([[exchange.sent_ns], arrived_ns])[: len(arrivals)]
        # In flight at a step's beginning: when the request was sent, or after the arrival before.
        before = np.concatenate([[0], arrivals + 1])[: len(arrivals)]
        phase = np.where(step == 0, PREFILL, DECODE)
        rows = typed_frame(
            len(step),
            {
                **request_columns(request),
                "sequence_index": 0,
                "prompt_id": request.prompt_ids[0],
                "session_id": self.session_id,
                "session_request": self._n_requests,
                "token_index": token,
                "phase": phase,
                "prompt_tokens": prompt_tokens,
                "context_length": prompt_tokens + token,
                **dict.fromkeys(UNKNOWN),
                "first_visit": self._visit(request.cell.engine, list(phase), prompt_tokens),
                "token_id": answer.token_ids,
                "token_latency_ms": ((arrived_ns - begun_ns) / 1e6)[step],
                "completed_at_ns": (arrived_ns + self.epoch_offset_ns)[step],
                "tokens_in_chunk": counts[step] if answer.is_counted else None,
                "requests_in_flight": np.array(exchange.in_flight, dtype=np.int64)[before][step],
                "queue_ms": (exchange.sent_ns - exchange.planned_ns) / 1e6,
                "first_byte_ms": (exchange.first_byte_ns - exchange.sent_ns) / 1e6,
                "cached_prompt_tokens": answer.cached_prompt_tokens,
                "attempt": 1 + len(exchange.failures),
                **dict.fromkeys(column.name for column in TELEMETRY),
                "telemetry_age_ms": None,
                "flags": FLAG_SEPARATOR.join(flags(exchange, answer)),
            },
        )[list(COLUMN)]
        self._told.update(name for name in SOMETIMES_TOLD if rows[name].notna().any())
        self._n_requests += not rows.empty and not rows["is_warmup"].iloc[0]
        return rows

    def unknown_columns(self) -> list[str]:
        """Return which columns no row has a value in, since the server never told; telemetry left aside."""
        return [*UNKNOWN, *(name for name in SOMETIMES_TOLD if name not in self._told)]

    def _visit(self, engine: str, phases: list[str], prompt_tokens: int) -> list[bool]:
        """Tell which tokens are the first that this process asked for at their context, and remember them."""
        shapes = [(engine, phase, prompt_tokens + index) for index, phase in enumerate(phases)]
        is_first = [shape not in self._visited for shape in shapes]
        self._visited.update(shapes)
        return is_first


def flags(exchange: Exchange, answer: Answer) -> list[str]:
    """Return what makes all rows of a request doubtful."""
    found = {
        "retried": bool(exchange.failures),
        "cut_stream": not answer.is_whole,
        "malformed_stream": answer.n_malformed > 0,
        "uncounted_tokens": not answer.is_counted,
    }
    return [name for name, holds in found.items() if holds]
