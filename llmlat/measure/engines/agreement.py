"""Whether an engine generates what `generate()` of transformers does, seen before anything is measured.

A model may take what it is fed and do something else: swallow a cache that it does not use, count positions
in its own way, or want inputs besides. Its tokens would be wrong and its steps too quick. So the logits of a
few steps are set beside those of `generate()`, once for every model and engine.
"""

import logging
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, PreTrainedModel

from llmlat.errors import LlmlatError, ModelError, one_line
from llmlat.measure.engines import Choice, Decoder, Engine
from llmlat.measure.machine.device import is_out_of_memory

log = logging.getLogger(__name__)

_N_STEPS = 4
# Any would do. Experts that are all but equally likely may be chosen otherwise: one that agrees is enough.
_PROMPTS = ((5, 9, 7), (11, 6, 8), (13, 10, 12))
# Of the logits' spread. The same kernels run on the same numbers; without what came before it is far more.
_TOLERANCE = 0.02

_checked: "weakref.WeakKeyDictionary[PreTrainedModel, set[_EngineClass]]" = weakref.WeakKeyDictionary()


class _EngineClass(Protocol):
    """An engine of nothing but a model and a decoder, that says whether it keeps anything between steps."""

    uses_cache: bool

    def __call__(self, model: PreTrainedModel, decoder: Decoder) -> Engine:
        """Make the engine."""


class _Replay:
    """Chooses the tokens that it is told to, and keeps the logits."""

    num_beams = 1

    def __init__(self, ids: torch.Tensor) -> None:
        self.logits: list[torch.Tensor] = []
        self._ids = ids

    def begin(self, n_sequences: int, max_new_tokens: int, seed: int) -> None:
        """Have nothing to get ready."""

    def choose(self, logits: torch.Tensor) -> Choice:
        """Return the next of the tokens."""
        self.logits.append(logits.float())
        return self._ids[:, len(self.logits) - 1 :][:, :1], None

    def is_finished(self) -> bool:
        """Never."""
        return False

    def tokens(self, steps: Sequence[torch.Tensor]) -> list[list[int | None]]:
        """Return what the steps returned."""
        return torch.cat(list(steps), dim=1).tolist()


def check_agreement(engine_class: _EngineClass, model: PreTrainedModel, setting: str, instead: str) -> None:
    """Refuse an engine whose steps are not those of `generate()` for a model.

    Parameters
    ----------
    engine_class : callable
        What makes the engine.
    model : PreTrainedModel
    setting, instead : str
        What chose the engine, and what to write instead.

    Raises
    ------
    ModelError
    """
    checked = _checked.setdefault(model, set())
    if engine_class in checked:
        return
    checked.add(engine_class)  # beforehand: the engines that are made here are not checked themselves
    largest = max(map(max, _PROMPTS))
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", None) or largest + 1)
    try:
        reasons = []
        for prompt in _PROMPTS:
            reason = _difference(engine_class, model, [token % vocabulary for token in prompt])
            if reason is None:
                return
            reasons.append(reason)
        raise ModelError(f"{setting}: {type(model).__name__} {reasons[0]}; use {instead}.")
    except LlmlatError:
        checked.remove(engine_class)
        raise


def _difference(engine_class: _EngineClass, model: PreTrainedModel, prompt: list[int]) -> str | None:
    """Return how an engine's steps differ from those of `generate()`; None where they agree."""
    with torch.inference_mode():
        try:
            ids, expected = _generated(model, prompt, uses_cache=engine_class.uses_cache)
        except Exception as error:
            # Whether the engine runs is seen all the same.
            why = one_line(error)
            log.info(f"{type(model).__name__}: generate() fails here ({why}): nothing is compared with it.")
            ids, expected = torch.full((1, _N_STEPS), prompt[0], device=model.device), ()
        try:
            logits = _logits(engine_class, model, prompt, ids)
        except LlmlatError:
            raise
        except Exception as error:
            return None if is_out_of_memory(error) else f"cannot be run so ({one_line(error)})"
    steps = zip(logits, expected, strict=False)
    wrong = (step for step, (own, theirs) in enumerate(steps) if not _are_close(own, theirs.float()))
    step = next(wrong, None)
    return None if step is None else f"does not generate what generate() does, from token {step} on"


def _generated(
    model: PreTrainedModel, prompt: list[int], *, uses_cache: bool
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return the tokens that transformers generates, shape (1, steps), and the logits of each step."""
    output: Any = model.generate(
        torch.tensor([prompt], device=model.device),
        generation_config=GenerationConfig(
            max_new_tokens=_N_STEPS,
            min_new_tokens=_N_STEPS,
            do_sample=False,
            num_beams=1,
            use_cache=uses_cache,
            pad_token_id=0,
        ),
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.sequences[:, len(prompt) :], output.logits


def _logits(
    engine_class: _EngineClass, model: PreTrainedModel, prompt: list[int], ids: torch.Tensor
) -> list[torch.Tensor]:
    """Return the logits of an engine's steps, where these tokens are chosen."""
    replay = _Replay(ids)
    engine = engine_class(model, replay)
    state = engine.prepare([prompt], ids.shape[1])
    engine.prefill(state)
    for _ in range(ids.shape[1] - 1):
        engine.decode_one_token(state)
    return replay.logits


def _are_close(own: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Tell whether logits are the same but for rounding; where both are not finite, nothing can be told."""
    if own.shape != theirs.shape:
        return False
    difference = (own - theirs).abs()
    return bool((difference <= _TOLERANCE * theirs.std()).all() or not torch.isfinite(theirs).all())
