"""The timed loop: nothing but the step and the mark happens between two marks, not even a collection."""

import gc
import sys
from types import FrameType
from typing import Any

import pytest
import torch

from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector, RequestBrokenOffError
from llmlat.measure.engines.fake import FakeEngine, FakeState, ScriptedDecoder, ScriptedTimer
from llmlat.measure.prompts import Request

pytestmark = pytest.mark.usefixtures("quick_requests")


class Witness(FakeEngine):
    """Notes at every step what the surroundings are like."""

    def __init__(self, timer: ScriptedTimer, fails: bool = False) -> None:
        super().__init__(timer, lambda *_: 1.0)
        self.fails = fails
        self.collecting: list[bool] = []
        self.recording_gradients: list[bool] = []

    def decode_one_token(self, state: FakeState) -> torch.Tensor:
        self.collecting.append(gc.isenabled())
        self.recording_gradients.append(not torch.is_inference_mode_enabled())
        if self.fails:
            raise RuntimeError
        return super().decode_one_token(state)


@pytest.fixture
def timer():
    return ScriptedTimer()


def measure(timer, engine, request):
    return Collector(timer).measure(request, engine, engine.decoder)


def test_no_garbage_collection_and_no_gradients_within_a_request(timer, request_of):
    engine = Witness(timer)
    assert gc.isenabled()
    for request in (request_of(0), request_of(1)):
        measure(timer, engine, request)
        assert gc.isenabled()
        assert not torch.is_inference_mode_enabled()
    assert engine.collecting == [False] * 8
    assert engine.recording_gradients == [False] * 8


def test_garbage_collection_comes_back_after_a_failure(timer, request_of):
    with pytest.raises(RequestBrokenOffError):
        measure(timer, Witness(timer, fails=True), request_of())
    assert gc.isenabled()


def test_garbage_collection_stays_off_for_who_had_it_off(timer, request_of):
    gc.disable()
    try:
        measure(timer, Witness(timer), request_of())
        assert not gc.isenabled()
    finally:
        gc.enable()


class Untouchable:
    """A token that cannot be looked at: looking would wait for the device."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the timed loop looked at a token: {name}")


class SilentEngine:
    def prepare(self, prompts, max_new_tokens):
        return None

    def prefill(self, state):
        return Untouchable()

    def decode_one_token(self, state):
        return Untouchable()


class SilentTimer:
    def reset(self, n_steps):
        return None

    def mark(self):
        return None


def calls_of(function: Any, *arguments: Any) -> list[str]:
    """Return the names of everything, Python or C, that a function itself calls."""
    called = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_back is not None and frame.f_back.f_code is function.__code__:
            called.append(frame.f_code.co_name)
        elif event == "c_call" and frame.f_code is function.__code__:
            called.append(argument.__name__)

    sys.setprofile(profile)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return called


def generate_calls(request: Request, engine: Any, decoder: Any) -> list[str]:
    """Return what the timed loop calls."""
    collector = Collector(SilentTimer())
    return calls_of(Collector._generate, collector, request, engine, decoder, [])


PREFILL_CALLS = ["prepare", "reset", "mark", "prefill", "mark", "append"]


def test_nothing_but_the_step_happens_between_two_marks(request_of):
    called = generate_calls(request_of(max_new_tokens=4), SilentEngine(), Untouchable())
    step = ["decode_one_token", "mark", "append"]
    assert called == [*PREFILL_CALLS, *step, *step, *step]


def test_looking_for_the_end_of_sequence_is_all_that_a_step_adds(batch_of):
    decoder = ScriptedDecoder(eos_ids=(5,))
    decoder.begin(1, 3, seed=0)
    request = batch_of([10], Cell("eager", stop_at_eos=True), max_new_tokens=3)
    called = generate_calls(request, SilentEngine(), decoder)
    step = ["is_finished", "decode_one_token", "mark", "append"]
    assert called == [*PREFILL_CALLS, *step, *step]
