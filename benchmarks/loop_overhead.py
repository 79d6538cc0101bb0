"""What the collector adds to a token: its loop beside a bare hand-written one, over the same engine.

    python benchmarks/loop_overhead.py [--pairs 60] [--tokens 32]

Both loops take turns in one process, so that a drift of the machine falls on both. Reported are the ratio of
their median token latencies, pair by pair, with a bootstrap interval of the median ratio; and the collector's
own time a token, over an engine that does nothing.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from llmlat import config
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector, paused_garbage_collection
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.models.load import load_model
from llmlat.measure.plan import make_plan
from llmlat.measure.prompts import Request
from llmlat.measure.timers import WallTimer


def bare_loop(engine: EagerEngine, request: Request) -> list[float]:
    """Time each decode token the way anyone would by hand; return milliseconds."""
    with torch.inference_mode(), paused_garbage_collection():
        engine.decoder.begin(len(request.prompts), request.max_new_tokens, seed=0)
        state = engine.prepare(request.prompts, request.max_new_tokens)
        engine.prefill(state)
        previous = time.perf_counter_ns()
        latency_ms = []
        for _ in range(request.max_new_tokens - 1):
            engine.decode_one_token(state)
            now = time.perf_counter_ns()
            latency_ms.append((now - previous) / 1e6)
            previous = now
    return latency_ms


def collected(engine: EagerEngine, request: Request) -> list[float]:
    """Time each decode token with the collector; return milliseconds."""
    rows = Collector(WallTimer()).measure(request, engine, engine.decoder)
    return list(rows["token_latency_ms"][1:])


def side_by_side(engine: EagerEngine, request: Request, pairs: int) -> tuple[float, float, float]:
    """Return the median ratio of the collector to the bare loop, and its 95 % interval."""
    collected(engine, request), bare_loop(engine, request)
    ratios = []
    for pair in range(pairs):
        first, second = (collected, bare_loop) if pair % 2 else (bare_loop, collected)
        medians = {loop: statistics.median(loop(engine, request)) for loop in (first, second)}
        ratios.append(medians[collected] / medians[bare_loop])
    draws = np.random.default_rng(0).choice(ratios, (5000, pairs))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


class IdleEngine:
    """Does nothing."""

    def prepare(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> torch.Tensor:
        """Return the token that every step returns."""
        return torch.zeros((1, 1), dtype=torch.long)

    def prefill(self, state: torch.Tensor) -> torch.Tensor:
        """Return a token."""
        return state

    def decode_one_token(self, state: torch.Tensor) -> torch.Tensor:
        """Return a token."""
        return state


def own_cost_us(n_tokens: int = 20_000) -> float:
    """Return the loop's own time a token, in microseconds, over an engine that does nothing."""
    engine = IdleEngine()
    request = Request(0, ("empty",), 0, ((1, 2, 3),), n_tokens, Cell("idle"))
    state = engine.prepare(request.prompts, n_tokens)
    start = time.perf_counter_ns()
    for _ in range(n_tokens):
        engine.decode_one_token(state)
    bare_ns = time.perf_counter_ns() - start
    steps: list[torch.Tensor] = []
    start = time.perf_counter_ns()
    Collector(WallTimer())._generate(request, engine, Greedy(), steps)
    return (time.perf_counter_ns() - start - bare_ns) / n_tokens / 1e3


def main() -> None:
    """Run both comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=32)
    arguments = parser.parse_args()
    config.register()
    with initialize_config_dir(str(config.config_dir()), version_base="1.3"):
        settings = config.from_composed(compose("config", ["device=cpu"]))
    plan = make_plan(settings)
    model = load_model(plan.source, settings.quantization.name, plan.device, settings.seed)
    request = replace(plan.requests[0], max_new_tokens=arguments.tokens)
    ratio, low, high = side_by_side(EagerEngine(model, Greedy()), request, arguments.pairs)
    print(
        f"collector / bare loop, median token of mistral-mini: {ratio:.4f} [{low:.4f}, {high:.4f}] "
        "(at most 1.01)"
    )
    print(f"collector's own time a token, engine that does nothing: {own_cost_us():.2f} µs (at most 5)")


if __name__ == "__main__":
    main()
