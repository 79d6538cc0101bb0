"""What telemetry and flags add to a token: mistral-mini on the CPU, with and without them.

    python benchmarks/telemetry_overhead.py [--pairs 60] [--tokens 32] [--interval-ms 100] [OVERRIDE ...]

Overrides as on the command line measure something else: `device=cuda model=mistral-7b-instruct-v0.3`.

Requests with and without telemetry take turns in one process, so that a drift of the machine falls on both.
Reported are the ratio of their median token latencies, pair by pair, with a bootstrap interval of the median
ratio; the same for the mean, where a sample falls on one token in several; and what a sample costs.
"""

import argparse
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir

from llmlat import config
from llmlat.config import CollectConfig
from llmlat.measure.collect import Collector, set_aside_from_garbage_collection
from llmlat.measure.engines import Decoder, Engine
from llmlat.measure.generators import Generators
from llmlat.measure.plan import make_plan
from llmlat.measure.prompts import Request
from llmlat.measure.telemetry import open_telemetry
from llmlat.measure.timers import make_timer


class Comparison:
    """Measures one request over and over, with telemetry and without."""

    def __init__(
        self, device: torch.device, request: Request, engine: Engine, decoder: Decoder, interval_ms: float
    ) -> None:
        self._device = device
        self._measured = request, engine, decoder
        self._collector = Collector(make_timer(device))
        self._on = CollectConfig(telemetry_interval_ms=interval_ms)
        self.sample_us: list[float] = []
        self.share_of_time: list[float] = []

    def latency_ms(self, is_on: bool) -> pd.Series:
        """Measure the request; return its decode tokens' latencies in milliseconds."""
        collect = self._on if is_on else replace(self._on, telemetry_interval_ms=0)
        with open_telemetry(self._device, collect, self._collector.epoch_offset_ns) as telemetry:
            rows = telemetry.annotate(self._collector.measure(*self._measured))
            described = telemetry.describe()
        if is_on:
            self.sample_us.append(described["sample_us"]["median"])
            self.share_of_time.append(described["share_of_time"])
        return rows["token_latency_ms"][1:]

    def ratios(self, pairs: int) -> tuple[list[float], list[float]]:
        """Return the ratios, with telemetry over without, of each pair's medians and of its means."""
        self.latency_ms(True), self.latency_ms(False)
        medians, means = [], []
        for pair in range(pairs):
            taken = {is_on: self.latency_ms(is_on) for is_on in (bool(pair % 2), not pair % 2)}
            medians.append(taken[True].median() / taken[False].median())
            means.append(taken[True].mean() / taken[False].mean())
        return medians, means


def with_interval(ratios: list[float]) -> str:
    """Return the median of ratios with its 95 % interval, as text."""
    draws = np.random.default_rng(0).choice(ratios, (5000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return f"{np.median(ratios):.4f} [{low:.4f}, {high:.4f}]"


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--interval-ms", type=float, default=100.0)
    parser.add_argument("overrides", nargs="*", default=["device=cpu"])
    arguments = parser.parse_args()
    config.register()
    with initialize_config_dir(str(config.config_dir()), version_base="1.3"):
        settings = config.from_composed(compose("config", arguments.overrides))
    plan = make_plan(settings)
    request = replace(plan.single_pass[0], max_new_tokens=arguments.tokens)
    engine, decoder = Generators(settings, plan).of(request.cell)
    comparison = Comparison(plan.device, request, engine, decoder, arguments.interval_ms)
    with set_aside_from_garbage_collection():
        medians, means = comparison.ratios(arguments.pairs)
    print(f"telemetry on / off, median token of {plan.source.name}: {with_interval(medians)}")
    print(f"the same, mean token: {with_interval(means)}")
    print(
        f"a sample every {arguments.interval_ms:g} ms: {np.median(comparison.sample_us):.0f} µs, "
        f"{np.median(comparison.share_of_time):.2%} of the time; load average {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
