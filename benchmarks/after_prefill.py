"""How long decode steps suffer from the prefill before them, and whether a pause mends it.

    python benchmarks/after_prefill.py [--prompts 256 4096 16384] [--pauses-ms 0 20 50 100 300 1000]
        [--times 4] [--tokens 48] [--json FILE] [-- model=... quantization=...]

A prompt is processed, nothing happens for a while, and then tokens are decoded from a captured graph, with
the device's clock and power read between the steps. Prompts and pauses take turns in random order. Needs
CUDA; the model is Mistral-7B's architecture in bf16 unless told otherwise.
"""

import argparse
import random
import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from cuda_graph import MISTRAL_7B, loaded, prompt_of
from transformers import PreTrainedModel

from llmlat.config import CollectConfig
from llmlat.errors import LlmlatError
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines.cuda_graph import CudaGraphEngine
from llmlat.measure.machine.nvml import open_device
from llmlat.measure.prompts import Request
from llmlat.measure.protocol.warmup import settle
from llmlat.measure.telemetry.nvml import GpuSource
from llmlat.measure.timers import make_timer

REST_S = 0.2  # between requests
SETTLED = 20  # tokens after which a step is taken to cost what it costs
SHOWN = [1, 2, 4, 8, 16]


def warmed_up(model: PreTrainedModel, prompt_tokens: int, n_tokens: int) -> CudaGraphEngine:
    """Return an engine whose latency has settled, with a graph for all prompts up to this length."""
    engine = CudaGraphEngine(model, Greedy(device=model.device))
    collector = Collector(make_timer(model.device))
    request = Request(0, ("made-up",), 0, (prompt_of(prompt_tokens),), n_tokens, Cell("graph"))
    settle(lambda n: collector.warm_up(request, n, engine, engine.decoder), CollectConfig(), n_tokens)
    return engine


@torch.inference_mode()
def decoded(
    engine: CudaGraphEngine, gpu: GpuSource, prompt_tokens: int, pause_ms: float, n_tokens: int
) -> list[dict[str, Any]]:
    """Process a prompt, pause, decode; return a row a decode step."""
    engine.decoder.begin(1, n_tokens, seed=0)
    state = engine.prepare([prompt_of(prompt_tokens)], n_tokens)
    torch.cuda.synchronize()
    _, prefill_ms = timed(lambda: engine.prefill(state))
    time.sleep(pause_ms / 1e3)
    rows = []
    for token_index in range(1, n_tokens):
        _, latency_ms = timed(lambda: engine.decode_one_token(state))
        rows.append({"token_index": token_index, "latency_ms": latency_ms, **gpu.read()})
    about = {"prompt_tokens": prompt_tokens, "pause_ms": pause_ms, "prefill_ms": prefill_ms}
    return [{**about, **row} for row in rows]


def timed(step: Any) -> tuple[Any, float]:
    """Return what a step returns and its wall time in ms, the device's work included."""
    began = time.perf_counter()
    result = step()
    torch.cuda.synchronize()
    return result, 1e3 * (time.perf_counter() - began)


def print_table(rows: pd.DataFrame) -> None:
    """Print how much slower than settled ones the steps are, and clock and power meanwhile."""
    for (prompt_tokens, pause_ms), part in rows.groupby(["prompt_tokens", "pause_ms"]):
        steps = part.groupby("token_index")[["latency_ms", "sm_clock_mhz", "gpu_power_w"]].median()
        settled_ms = steps.loc[SETTLED:, "latency_ms"].median()
        slower = " ".join(f"{100 * (steps.latency_ms[i] / settled_ms - 1):4.1f}" for i in SHOWN)
        print(
            f"{prompt_tokens:6} tokens in {part.prefill_ms.median():6.1f} ms, pause {pause_ms:6.0f} ms: "
            f"steps {SHOWN} take {slower} % above {settled_ms:.3f} ms; "
            f"at first {steps.sm_clock_mhz[1]:.0f} MHz, {steps.gpu_power_w[1]:.0f} W"
        )


def main() -> None:
    """Measure, and print a line for each prompt and pause."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, nargs="+", default=[256, 4096, 16384])
    parser.add_argument("--pauses-ms", type=float, nargs="+", default=[0, 20, 50, 100, 300, 1000])
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    try:
        model, what, _ = loaded(arguments.overrides or MISTRAL_7B)
    except LlmlatError as error:
        parser.error(str(error))
    print(what, flush=True)
    engine = warmed_up(model, max(arguments.prompts), arguments.tokens)
    plan = list(product(arguments.prompts, arguments.pauses_ms)) * arguments.times
    random.Random(0).shuffle(plan)
    rows: list[dict[str, Any]] = []
    with open_device(model.device) as handle:
        gpu = GpuSource(handle)
        for prompt_tokens, pause_ms in plan:
            time.sleep(REST_S)
            rows += decoded(engine, gpu, prompt_tokens, pause_ms, arguments.tokens)
        gpu.close()
    table = pd.DataFrame(rows)
    print_table(table)
    if arguments.json:
        table.to_json(arguments.json, orient="records", lines=True)


if __name__ == "__main__":
    main()
