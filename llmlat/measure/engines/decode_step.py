"""One decode step over memory that stays where it is, captured once and replayed for every token.

Eager decoding is bound by the host, which launches over a thousand kernels a token. A CUDA graph holds them
all and is launched at once, so that a step takes the device's own time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._dynamo import config as dynamo_config
from transformers import PreTrainedModel

from llmlat.measure.engines.static_cache import Place, StaticCache
from llmlat.measure.engines.used_length import attending_to_used_length, check_architecture, refusal

Forward = Callable[["DecodeStep"], torch.Tensor]
Replay = Callable[[], torch.Tensor]

# Steps before capturing: in the first ones libraries allocate workspaces, which a graph cannot hold.
_STEPS_BEFORE_CAPTURE = 3

# A step at batch 1 is matrices times one vector. On an H200, in multiples of the time that a 7B model's
# weights take to be read, it takes 1.53 as the compiler comes; 1.37 with matrix-vector products that the
# compiler writes and tunes itself; and 1.27 where it computes what is fed to them once, and not again for
# every row of the matrix.
_COMPILE_OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "coordinate_descent_tuning": True,
    "realize_opcount_threshold": 8,
}
# One for every number of rows and every model that a sweep loads; beyond it, torch would not compile.
_MOST_COMPILATIONS = 256


@dataclass(frozen=True)
class Preparation:
    """What getting a step ready took; none of it is in any row.

    Attributes
    ----------
    rows, capacity : int
        Sequences (or beams) side by side, and the tokens that there is room for in each.
    compile_s : float or None
        Seconds that the first step of a compiled model took; None where it is not compiled.
    capture_s : float
        Seconds that allocating the cache, the steps before capturing, capturing and the first replay took.
    """

    rows: int
    capacity: int
    compile_s: float | None
    capture_s: float


class DecodeStep:
    """The memory of one decode step, and the step itself.

    Parameters
    ----------
    model : PreTrainedModel
    rows : int
        Sequences side by side.
    capacity : int
        Tokens that the cache has room for, each row.

    Attributes
    ----------
    place : Place
    cache : StaticCache
    input_ids : Tensor of shape (rows, 1)
        What is fed next.
    position_ids : Tensor of shape (rows, 1)
        Its place in its own sequence.
    """

    def __init__(self, model: PreTrainedModel, rows: int, capacity: int) -> None:
        self.model = model
        self.rows = rows
        self.capacity = capacity
        zeros = torch.zeros((rows, 1), dtype=torch.int64, device=model.device)
        self.input_ids, self.position_ids = zeros, zeros.clone()
        self.place = Place(zeros[:, 0].clone(), zeros[0].clone())
        self.cache = StaticCache(capacity, self.place)

    def begin(self, lengths: torch.Tensor, longest: int) -> None:
        """Get ready for prompts of these lengths, shape (rows,), that end in the same column."""
        self.place.first_columns.copy_(longest - lengths)
        self.place.column.fill_(longest)
        self.position_ids.copy_(lengths[:, None])

    def prefill(self, input_ids: torch.Tensor, **columns: torch.Tensor) -> torch.Tensor:
        """Process whole prompts, and return the logits of token 0, shape (rows, vocabulary)."""
        self.place.is_prefilling = True
        output = self.model(
            input_ids=input_ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1, **columns
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def decode(self, forward: Forward) -> torch.Tensor:
        """Process the token that is fed, and return the logits of the next, shape (rows, vocabulary)."""
        self.place.is_prefilling = False
        with attending_to_used_length(self.model):
            return forward(self)


def forward(step: DecodeStep) -> torch.Tensor:
    """Run the model on the token that is fed and move on by one: what is compiled and captured."""
    output = step.model(
        input_ids=step.input_ids,
        position_ids=step.position_ids,
        past_key_values=step.cache,
        use_cache=True,
        logits_to_keep=1,
        first_columns=step.place.first_columns,
        last_column=step.place.column,
    )
    step.place.column.add_(1)
    step.position_ids.add_(1)
    logits: torch.Tensor = output.logits[:, -1]
    return logits


def make_ready(step: DecodeStep, *, is_compiled: bool) -> tuple[Replay, Preparation]:
    """Allocate a step's cache and capture what it launches.

    Returns
    -------
    replay : callable
        Takes the step again, and returns its logits, in the same memory every time.
    preparation : Preparation

    Raises
    ------
    ModelError
        Where the model's architecture attends otherwise.
    """
    check_architecture(step.model)
    device = step.model.device
    began = _seconds(device)
    # One token a row: the shapes of keys and values are known from then on.
    step.begin(torch.ones_like(step.place.first_columns), longest=1)
    step.prefill(step.input_ids)
    if not step.cache.layers:
        raise refusal(step.model, "keeps no keys and values")
    allocated = _seconds(device)
    run = _compiled(step) if is_compiled else forward
    compiled = _seconds(device)
    replay = capture(lambda: step.decode(run), device)
    # The first replay brings the graph to the device.
    replay()
    compile_s = compiled - allocated
    capture_s = _seconds(device) - began - compile_s
    return replay, Preparation(step.rows, step.capacity, compile_s if is_compiled else None, capture_s)


def _compiled(step: DecodeStep) -> Forward:
    """Return `forward`, compiled for a step by running it once."""
    # A part that is not compiled would go unnoticed: `fullgraph` refuses instead.
    run: Forward = torch.compile(forward, fullgraph=True, dynamic=False, options=_COMPILE_OPTIONS)
    with dynamo_config.patch(recompile_limit=_MOST_COMPILATIONS):
        step.decode(run)
    return run


def capture(step: Replay, device: torch.device) -> Replay:
    """Record what a step launches, and return what launches it again."""
    with torch.cuda.device(device):
        aside = _aside(device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_STEPS_BEFORE_CAPTURE):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=aside):
            logits = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return logits

    return replay


@cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """Return the stream that steps are captured on: cuBLAS keeps 32 MiB for each that it has ever seen."""
    return torch.cuda.Stream(device)


def _seconds(device: torch.device) -> float:
    """Return the time at which all that was launched is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
