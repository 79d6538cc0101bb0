"""What the first step at a context length costs, and which attention backend pays it.

    python benchmarks/first_visit.py [--quantization none] [--tokens 48]

Each backend decodes the same request twice, over context lengths that nothing in this process has visited
before. The first pass pays whatever is planned, compiled or tuned per shape; the second does not.
"""

import argparse
from contextlib import AbstractContextManager, nullcontext

from hydra import compose, initialize_config_dir
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmlat import config
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.models.load import load_model
from llmlat.measure.plan import make_plan
from llmlat.measure.prompts import Request
from llmlat.measure.timers import make_timer

WARMUP_TOKENS = 8
BACKENDS: dict[str, list[SDPBackend] | None] = {
    "as it comes": None,
    "flash": [SDPBackend.FLASH_ATTENTION],
    "memory-efficient": [SDPBackend.EFFICIENT_ATTENTION],
    "math": [SDPBackend.MATH],
    "cuDNN": [SDPBackend.CUDNN_ATTENTION],
    "as it comes, again": None,
}


def chosen(backends: list[SDPBackend] | None) -> AbstractContextManager[None]:
    """Allow only these backends of attention within the block; None leaves the choice alone."""
    return nullcontext() if backends is None else sdpa_kernel(backends)


def main() -> None:
    """Measure each backend and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quantization", default="none")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("overrides", nargs="*", default=["+experiment=thesis"])
    arguments = parser.parse_args()
    config.register()
    with initialize_config_dir(str(config.config_dir()), version_base="1.3"):
        overrides = [*arguments.overrides, f"quantization={arguments.quantization}"]
        settings = config.from_composed(compose("config", overrides))
    plan = make_plan(settings)
    model = load_model(plan.source, settings.quantization.name, plan.device, settings.seed)
    print(
        f"{plan.source.name}, quantization {arguments.quantization}, on {plan.device}: "
        "median ms a decode token"
    )
    for place, (name, backends) in enumerate(BACKENDS.items()):
        prompt = tuple(range(3, 3 + 64 + place * (arguments.tokens + 16)))
        passes = [Request(i, (name,), i, (prompt,), arguments.tokens, Cell("eager")) for i in range(2)]
        collector, decoder = Collector(make_timer(plan.device)), Greedy(device=plan.device)
        engine = EagerEngine(model, decoder)
        try:
            with chosen(backends):
                frames = [collector.measure(request, engine, decoder) for request in passes]
        except Exception as error:
            print(f"{name:20} cannot run here ({str(error.__cause__ or error).splitlines()[0]})")
            continue
        first, second = (rows["token_latency_ms"].iloc[WARMUP_TOKENS:].median() for rows in frames)
        print(f"{name:20} first visit {first:7.2f}   second {second:7.2f}   ratio {first / second:.2f}")


if __name__ == "__main__":
    main()
