"""Small models and requests for the measuring half."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralConfig, PreTrainedModel

from llmlat.config import Config, QuantizationName
from llmlat.dataset import Dataset
from llmlat.measure.cells import Cell
from llmlat.measure.collect import set_aside_from_garbage_collection
from llmlat.measure.engines import decode_step
from llmlat.measure.models.load import load_model
from llmlat.measure.models.sources import ModelSource
from llmlat.measure.plan import make_plan
from llmlat.measure.prompts import Request
from llmlat.measure.session import measure

torch.set_num_threads(1)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def quick_requests() -> Iterator[None]:
    """Spare every request of a module's tests the garbage collection over all that is loaded."""
    with set_aside_from_garbage_collection():
        yield


@pytest.fixture
def uncaptured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engine=cuda_graph take its step itself instead of capturing it: all but the graph, anywhere."""
    monkeypatch.setattr(decode_step, "capture", lambda step, device: step)


@pytest.fixture
def request_of() -> Callable[..., Request]:
    """Return a function that makes a request of so many prompt and generated tokens."""

    def make(request_id: int = 0, prompt_tokens: int = 10, max_new_tokens: int = 4) -> Request:
        token_ids = tuple(3 + (7 * i + request_id) % 90 for i in range(prompt_tokens))
        return Request(request_id, (f"prompt-{request_id}",), 0, (token_ids,), max_new_tokens, Cell("eager"))

    return make


@pytest.fixture
def batch_of() -> Callable[..., Request]:
    """Return a function that makes a request of prompts of these lengths, generated as a cell says."""

    def make(
        lengths: Sequence[int], cell: Cell, request_id: int = 0, max_new_tokens: int = 4, salt: int = 0
    ) -> Request:
        names = tuple(f"prompt-{place}" for place in range(len(lengths)))
        prompts = tuple(
            tuple(3 + (7 * i * (place + 1) + 5 * place + salt) % 90 for i in range(length))
            for place, length in enumerate(lengths)
        )
        return Request(request_id, names, 0, prompts, max_new_tokens, replace(cell, batch_size=len(lengths)))

    return make


@pytest.fixture(scope="session")
def tiny_architecture() -> MistralConfig:
    return make_architecture()


def make_architecture(**changes: Any) -> MistralConfig:
    fields = {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "sliding_window": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return MistralConfig(**{**fields, **changes})


@pytest.fixture(scope="session")
def random_model() -> Callable[..., PreTrainedModel]:
    """Return a function that loads the tiny architecture with random weights on the CPU."""

    def load(
        quantization: QuantizationName = QuantizationName.none, seed: int = 0, **changes: Any
    ) -> PreTrainedModel:
        source = ModelSource("tiny", make_architecture(**changes), "random")
        return load_model(source, quantization, CPU, seed)

    return load


@pytest.fixture
def config_of(
    compose: Callable[..., Config], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Config]:
    """Return a function that composes five prompts, the third the longest, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("One\nTwo words\nAnd three words here\nFour\nFive it is\n")

    def composed(*overrides: str) -> Config:
        ours = ["prompt_set=file", "prompt_set.path=p.txt", "prompt_set.max_new_tokens=4", "collect.warmup=3"]
        return compose(*tiny, *ours, "device=cpu", *overrides)

    return composed


@pytest.fixture
def run(config_of: Callable[..., Config]) -> Callable[..., Dataset]:
    """Return a function that measures it, and returns the dataset."""

    def measured(*overrides: str, on_request: Callable[..., None] = lambda request, rows: None) -> Dataset:
        config = config_of(*overrides)
        return measure(config, make_plan(config), {"seed": config.seed}, on_request)

    return measured


@pytest.fixture
def only_dataset() -> Callable[[], Dataset]:
    """Return a function that finds what a run left that did not return."""

    def found() -> Dataset:
        (folder,) = Path("outputs/datasets").iterdir()
        return Dataset(folder)

    return found
