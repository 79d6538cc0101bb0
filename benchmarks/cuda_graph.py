"""What a decode step costs with engine=cuda_graph: beside eager decoding, and beside the memory's floor.

    python benchmarks/cuda_graph.py [--contexts 128 1024 4096 16384] [--batches 1] [--json FILE]
        [--engines compiled graph eager] [--tokens 96] [-- model=... quantization=...]

The floor is the time in which the weights can be read once, at the bandwidth of a large copy measured here.
Each engine is warmed up until its latency has settled; each figure is of one request of the collector. Then
both engines are fed the same tokens, and their logits compared: where likeliest tokens lie closer together
than rounding, no two ways of adding up agree on them. Needs CUDA; the model is Mistral-7B's architecture in
bf16 unless told otherwise.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from transformers import PreTrainedModel

from llmlat import config
from llmlat.config import CollectConfig
from llmlat.errors import LlmlatError
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines import Choice, Engine
from llmlat.measure.engines.cuda_graph import CudaGraphEngine
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.machine.bandwidth import copy_bandwidth
from llmlat.measure.machine.device import pick_device
from llmlat.measure.machine.environment import device_name
from llmlat.measure.models.facts import model_facts
from llmlat.measure.models.load import load_model
from llmlat.measure.models.sources import find_model
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.warmup import settle
from llmlat.measure.timers import make_timer
from llmlat.records import DECODE
from llmlat.steps import one_row_a_step

MISTRAL_7B = ["model=mistral-7b-instruct-v0.3", "model.weights=random"]
AGREEMENT_CONTEXT = 1024


class Following(Greedy):
    """Feeds the tokens that are given, and keeps the logits that came instead."""

    def __init__(self, tokens: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.given = iter(tokens)
        self.logits: list[torch.Tensor] = []

    def choose(self, logits: torch.Tensor) -> Choice:
        """Return the next of the given tokens."""
        self.logits.append(logits.float().clone())
        return next(self.given), None


def prompt_of(length: int, salt: int = 0) -> tuple[int, ...]:
    """Return a prompt of various tokens."""
    return tuple(3 + (7919 * place + 104729 * salt) % 30000 for place in range(length))


def make_engine(name: str, model: PreTrainedModel, decoder: Greedy) -> Engine:
    """Return an engine by the name that the table has for it."""
    if name == "eager":
        return EagerEngine(model, decoder)
    return CudaGraphEngine(model, decoder, compile=name == "compiled")


def measured(
    name: str, model: PreTrainedModel, batch: int, contexts: Sequence[int], n_tokens: int
) -> Iterator[dict[str, Any]]:
    """Yield the step's median and spread at each context, the longest first: its graph serves the others."""

    def request_of(context: int) -> Request:
        prompts = tuple(prompt_of(context, salt) for salt in range(batch))
        return Request(0, ("made-up",) * batch, 0, prompts, n_tokens, Cell(name))

    def warm_up(n: int) -> pd.DataFrame:
        return collector.warm_up(request_of(max(contexts)), n, engine, decoder)

    decoder = Greedy(device=model.device)
    engine = make_engine(name, model, decoder)
    collector = Collector(make_timer(model.device))
    settle(warm_up, CollectConfig(), n_tokens)
    for context in sorted(contexts, reverse=True):
        rows = one_row_a_step(collector.measure(request_of(context), engine, decoder))
        p50, p95 = rows.loc[rows["phase"] == DECODE, "token_latency_ms"].quantile([0.5, 0.95])
        yield {"engine": name, "batch": batch, "context": context, "p50_ms": p50, "p95_over_p50": p95 / p50}
    for preparation in getattr(engine, "preparations", ()):
        print(f"{name}, not in any figure: {preparation}", flush=True)


def followed(
    name: str, model: PreTrainedModel, tokens: Sequence[torch.Tensor], prompt: Sequence[int]
) -> torch.Tensor:
    """Return the logits of every step, shape (steps, vocabulary), where these tokens are fed."""
    decoder = Following(tokens)
    engine = make_engine(name, model, decoder)
    with torch.inference_mode():
        state = engine.prepare([prompt], len(tokens))
        engine.prefill(state)
        for _ in tokens[1:]:
            engine.decode_one_token(state)
    return torch.cat(decoder.logits)


def agreement(name: str, model: PreTrainedModel, n_tokens: int) -> dict[str, Any]:
    """Compare an engine's logits with the eager ones, over the tokens that eager decoding generates."""
    prompt, decoder = prompt_of(AGREEMENT_CONTEXT), Greedy(device=model.device)
    eager = EagerEngine(model, decoder)
    with torch.inference_mode():
        decoder.begin(1, n_tokens, seed=0)
        state = eager.prepare([prompt], n_tokens)
        tokens = [eager.prefill(state), *(eager.decode_one_token(state) for _ in range(n_tokens - 1))]
        theirs, ours = (followed(engine, model, tokens, prompt) for engine in ("eager", name))
        differs = theirs.argmax(dim=1) != ours.argmax(dim=1)
        top = theirs.topk(2, dim=1).values
        margins = top[:, 0] - top[:, 1]
        return {
            "engine": name,
            "steps": n_tokens,
            "same_token": int((~differs).sum()),
            "logit_error": float(torch.linalg.norm(ours - theirs) / torch.linalg.norm(theirs)),
            "median_margin": float(margins.median()),
            "widest_margin_where_they_differ": float(margins[differs].max()) if differs.any() else 0.0,
        }


def loaded(overrides: Sequence[str]) -> tuple[PreTrainedModel, str, float]:
    """Return the model that the command line comes to, what it is, and its device's bandwidth."""
    config.register()
    with initialize_config_dir(str(config.config_dir()), version_base="1.3"):
        settings = config.from_composed(compose("config", list(overrides)))
    device, quantization = pick_device(settings.device), settings.quantization.name
    CudaGraphEngine.check(device, quantization)
    bandwidth = copy_bandwidth(device)
    assert bandwidth is not None, "no memory to copy in"
    source = find_model(settings.model, device)
    model = load_model(source, quantization, device, settings.seed)
    return model, f"{source.name}, quantization {quantization}, on {device_name(device)}", bandwidth


def main() -> None:
    """Measure, and print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 1024, 4096, 16384])
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--engines", nargs="+", default=["compiled", "graph", "eager"])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    try:
        model, what, bandwidth = loaded(arguments.overrides or MISTRAL_7B)
    except LlmlatError as error:
        parser.error(str(error))
    weight_bytes = model_facts(model)["weight_bytes"] or 0
    floor_ms = 1e3 * weight_bytes / bandwidth
    print(f"{what}: {weight_bytes / 1e9:.2f} GB of weights at {bandwidth / 1e12:.2f} TB/s: {floor_ms:.3f} ms")
    figures: list[dict[str, Any]] = []
    agreements: list[dict[str, Any]] = []
    for name, batch in product(arguments.engines, arguments.batches):
        for figure in measured(name, model, batch, arguments.contexts, arguments.tokens):
            figures.append({**figure, "over_floor": figure["p50_ms"] / floor_ms})
            print_figure(figures)
    for name in (name for name in arguments.engines if name != "eager"):
        agreements.append(agreement(name, model, arguments.tokens))
        print(agreements[-1])
    if arguments.json:
        found = {"floor_ms": floor_ms, "figures": figures, "agreements": agreements}
        arguments.json.write_text(json.dumps(found, indent=1))


def print_figure(figures: Sequence[dict[str, Any]]) -> None:
    """Print the last figure, and what others in its place are of it."""
    last = figures[-1]
    here = [
        figure for figure in figures[:-1] if all(figure[key] == last[key] for key in ("batch", "context"))
    ]
    beside = "".join(f"  {figure['engine']} {figure['p50_ms'] / last['p50_ms']:.3f} of it" for figure in here)
    print(
        f"{last['engine']:9} batch {last['batch']:3}  context {last['context']:6}  {last['p50_ms']:7.3f} ms  "
        f"p95 {last['p95_over_p50']:.4f} of it  {last['over_floor']:6.3f} of the floor{beside}",
        flush=True,
    )


if __name__ == "__main__":
    main()
