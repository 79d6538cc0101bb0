"""What came back of a request, and when: bytes beside the clock, and nothing read into them."""

from array import array
from dataclasses import dataclass, field
from enum import StrEnum

# Too busy, or out of order for now; any other refusal would be the same again.
RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Outcome(StrEnum):
    """How an exchange ended."""

    ended = "ended"
    cut = "cut"
    refused = "refused"
    no_answer = "no_answer"
    unreachable = "unreachable"
    interrupted = "interrupted"


@dataclass
class Exchange:
    """A request that was sent, and the bytes of the answer with the times when they came.

    Attributes
    ----------
    request_id : int
    planned_ns : int
        When the arrival pattern had it sent. All times are `time.perf_counter_ns` of one process.
    outcome : Outcome
    sent_ns, first_byte_ns : int
        When the request began to be written, and when its answer's first byte came; 0 where it did not.
    body : bytes
        The answer's body.
    arrival_ns : array of int
        When bytes came, strictly ascending.
    arrival_end : array of int
        How much of the body had come by each arrival, in bytes.
    in_flight : array of int
        Requests in flight when this one was sent, and after each arrival.
    status : int
        HTTP's; 0 where there was no answer.
    error : str
        What went wrong, for a person.
    retry_after_s : float or None
        How long the server asked to wait.
    failures : list of str
        What went wrong in the attempts before this one.
    """

    request_id: int
    planned_ns: int
    outcome: Outcome = Outcome.no_answer
    sent_ns: int = 0
    first_byte_ns: int = 0
    body: bytes = b""
    arrival_ns: "array[int]" = field(default_factory=lambda: array("q"))
    arrival_end: "array[int]" = field(default_factory=lambda: array("q"))
    in_flight: "array[int]" = field(default_factory=lambda: array("q"))
    status: int = 0
    error: str = ""
    retry_after_s: float | None = None
    failures: list[str] = field(default_factory=list)

    @property
    def is_lost(self) -> bool:
        """Whether nothing of an answer came."""
        return self.outcome in {Outcome.refused, Outcome.no_answer, Outcome.unreachable} or (
            self.outcome is Outcome.cut and not self.arrival_ns
        )

    @property
    def is_worth_another(self) -> bool:
        """Whether the same request may be answered if it is sent again."""
        return self.is_lost and (not self.status or self.status == 200 or self.status in RETRIED_STATUSES)
