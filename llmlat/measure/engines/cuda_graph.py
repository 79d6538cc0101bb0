"""Decoding by replaying one captured step over a static cache: the device's time, without the host's.

The decoder is not captured. Choosing a token is launched behind the replay, while the device is still at
work on it, so greedy decoding, sampling and beams are the same to the graph.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from llmlat.config import QuantizationName
from llmlat.errors import ConfigError, ModelError
from llmlat.measure.engines import Decoder
from llmlat.measure.engines.batch import Columns, side_by_side
from llmlat.measure.engines.decode_step import DecodeStep, Replay, make_ready
from llmlat.measure.machine.device import is_out_of_memory

# A cache has room for a multiple of so many tokens, so that requests of like length share it.
_BUCKET_TOKENS = 1024
# Without cuDNN's, which makes a plan for every prompt length that it has not seen, within the timed prefill.
_PREFILL_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass
class CudaGraphState:
    """A request under way: its prompts, the step that it replays, and the columns of the cache in use."""

    input_ids: torch.Tensor
    columns: Columns
    step: DecodeStep
    replay: Replay
    used: int = 0


class CudaGraphEngine:
    """Decodes by replaying a captured step, which attends to the used length of a static cache.

    A step is captured for the rows of a batch and a cache of a multiple of 1,024 tokens, and serves every
    request that fits, since an unused part costs no time. A longer one has it captured again, over a larger
    cache in its place. One request at a time: the next one's `prepare` takes the memory over.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model that attends through transformers' attention interface.
    decoder : Decoder
        Chooses the next tokens.
    compile : bool, default=False
        Whether the step is compiled before it is captured: a minute or two, once for each number of rows.

    Attributes
    ----------
    preparations : list of dict
        What each capturing took: the fields of `llmlat.measure.engines.decode_step.Preparation`.
    """

    def __init__(self, model: PreTrainedModel, decoder: Decoder, compile: bool = False) -> None:
        self.model = model
        self.decoder = decoder
        self.preparations: list[dict[str, Any]] = []
        self._is_compiled = compile
        self._ready: dict[int, tuple[DecodeStep, Replay]] = {}

    @staticmethod
    def check(device: torch.device, quantization: QuantizationName) -> None:
        """Refuse what cannot be captured, before anything is loaded.

        Raises
        ------
        ConfigError
        """
        if device.type != "cuda":
            raise ConfigError(
                f"engine=cuda_graph: needs a CUDA device, and device={device}; use engine=eager."
            )
        if quantization is QuantizationName.int8:
            raise ConfigError(
                "engine=cuda_graph: quantization=int8 cannot be captured: bitsandbytes' int8 layers ask the "
                "device in every step which columns are outliers, and wait for the answer; use "
                "quantization=nf4 or none, or engine=eager."
            )

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> CudaGraphState:
        """Put the prompts on the device, beside a captured step whose cache has room for the request."""
        num_beams = self.decoder.num_beams
        input_ids, columns = side_by_side(prompts, max_new_tokens, num_beams, self.model.device)
        rows, longest = input_ids.shape
        step, replay = self._made_ready(rows, longest + max_new_tokens)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.model.device)
        step.begin(lengths.repeat_interleave(num_beams), longest)
        return CudaGraphState(input_ids, columns, step, replay)

    def prefill(self, state: CudaGraphState) -> torch.Tensor:
        """Process the whole prompts and return token 0 of each."""
        state.used = state.input_ids.shape[1]
        with sdpa_kernel(_PREFILL_BACKENDS):
            logits = state.step.prefill(state.input_ids, **state.columns.between(0, state.used))
        return self._choose(state, logits)

    def decode_one_token(self, state: CudaGraphState) -> torch.Tensor:
        """Process the tokens before and return the next."""
        state.used += 1
        return self._choose(state, state.replay())

    def _choose(self, state: CudaGraphState, logits: torch.Tensor) -> torch.Tensor:
        next_ids, source = self.decoder.choose(logits)
        state.step.input_ids.copy_(next_ids)
        if source is not None:
            state.step.cache.reorder(source, state.used)
        return next_ids

    def _made_ready(self, rows: int, n_tokens: int) -> tuple[DecodeStep, Replay]:
        """Return a step with room for a request, captured now where there is none."""
        if rows not in self._ready or self._ready[rows][0].capacity < n_tokens:
            # What is replaced goes first: there may not be memory for both.
            self._ready.pop(rows, None)
            capacity = -(-n_tokens // _BUCKET_TOKENS) * _BUCKET_TOKENS
            self._ready[rows] = self._capture(DecodeStep(self.model, rows, capacity))
        return self._ready[rows]

    def _capture(self, step: DecodeStep) -> tuple[DecodeStep, Replay]:
        """Capture a step.

        Raises
        ------
        ModelError
            Where the model does something in a step that a graph cannot hold.
        """
        try:
            replay, preparation = make_ready(step, is_compiled=self._is_compiled)
        except (RuntimeError, ImportError) as error:
            # Ending a capture that went wrong fails too, and hides what went wrong.
            wrong = error.__context__ or error
            if is_out_of_memory(wrong):
                error.__traceback__ = None  # its frames hold the memory
                raise wrong from None
            first_line = str(wrong).partition("\n")[0]
            what = "compiled and captured" if self._is_compiled else "captured"
            raise ModelError(
                f"engine=cuda_graph: a decode step of {type(self.model).__name__} cannot be {what} "
                f"({first_line}); use engine=eager."
            ) from error
        self.preparations.append(asdict(preparation))
        return step, replay
