"""Our token latencies beside optimum-benchmark's, on the same local model in the same run.

    python benchmarks/beside_optimum.py [--rounds 3] [--iterations 5] [--prompt-tokens 128] [--new-tokens 32]

optimum-benchmark needs an older transformers than ours, so it gets an environment of its own, made once under
the user's cache with the versions below. It saves mistral-mini's architecture with random weights; both tools
load that folder, and take turns. It runs twice a round: as it comes, where its parent process waits for the
measured one in a loop that never sleeps, and with its inline launcher, where there is no parent.

What it reports a token is set right from its own values: see `corrected`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from llmlat.config import config_dir
from llmlat.dataset import Dataset
from llmlat.records import DECODE, TARGET

TORCH = "torch==2.13.0"
THEIRS = ("optimum-benchmark==0.6.0", "transformers>=4.57,<5", "datasets>=4,<5", "accelerate<2")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "llmlat" / "optimum-benchmark-0.6.0"
WARMUP_TOKENS = 64
REPORT = "run/benchmark_report.json"

SAVE_MODEL = """
import json, sys, torch
from transformers import MistralConfig, MistralForCausalLM
torch.manual_seed(0)
MistralForCausalLM(MistralConfig(**json.loads(sys.argv[2]))).save_pretrained(sys.argv[1])
"""
VERSIONS = """
import torch, transformers
print(f"transformers {transformers.__version__} with torch {torch.__version__}")
"""
CONFIG = (
    "defaults: [benchmark, scenario: inference, launcher: process, backend: pytorch, _self_]\nname: beside\n"
)
WHY = """
Why they differ
- With more than one iteration its list is wrong. Events are not cleared between iterations, so iteration k
  appends all k·N-1 gaps so far: K iterations of N tokens give N·K(K+1)/2-K values, not K(N-1). The first
  iteration counts K times, and the gap from one generate() to the next, a prefill in it, counts as a token:
  that is the p99 it reports. Corrected: the last iteration's list, without those gaps. Its iterations and
  duration default to at least 10 and 10 s, so this is what one gets.
- Its parent process asks in a loop that never sleeps whether the measured one is done, and keeps a core busy.
  The inline launcher shows what is left without it.
- It times from one call of a logits processor to the next, inside generate(): its other processors, stopping
  criteria and the preparing of inputs are in it. Ours times a step of a bare loop, with choosing the token.
- It runs on {theirs},
  ours on {ours}. The weights are the same file."""


def run(command: list[str], folder: Path, threads: int, result: str | None = None) -> str:
    """Run a command to its end, off the network's model hub; return what it printed.

    It failed where it says so, unless it has written the result that it was run for.
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode and not (result and (folder / result).is_file()):
        sys.exit(f"{' '.join(command[:4])} ... failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def make_environment(folder: Path) -> Path:
    """Return the bin folder of an environment with optimum-benchmark, made where it is not there yet."""
    done = folder / ".installed"
    if not done.is_file() or done.read_text() != repr(THEIRS):
        print(f"installing {THEIRS[0]} into {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        # torch on its own, and first: nothing else may choose its build.
        for packages in ((TORCH,), (TORCH, *THEIRS)):
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", *packages], check=True)
        done.write_text(repr(THEIRS))
    return folder / "bin"


def save_model(bin_folder: Path, folder: Path) -> Path:
    """Save mistral-mini with their transformers, whose files ours reads too."""
    written = OmegaConf.to_container(OmegaConf.load(config_dir() / "model" / "mistral-mini.yaml"))
    architecture = {k: v for k, v in written["architecture"].items() if k not in {"of", "model_type"}}
    run([str(bin_folder / "python"), "-c", SAVE_MODEL, "model", json.dumps(architecture)], folder, 1)
    return folder / "model"


def ours(model: Path, folder: Path, options: argparse.Namespace) -> np.ndarray:
    """Measure with llmlat; return decode latencies in milliseconds."""
    command = [
        *(sys.executable, "-m", "llmlat", "tracking=none", "model=hub", f"model.name={model}"),
        *("model.tokenizer=mistral_v3", "prompt_set=length_grid", "device=cpu"),
        f"prompt_set.prompt_tokens=[{options.prompt_tokens}]",
        f"prompt_set.max_new_tokens={options.new_tokens}",
        f"collect.repetitions={options.iterations}",
        f"collect.warmup={WARMUP_TOKENS}",
        *("datasets_dir=datasets", "hydra.run.dir=run"),
    ]
    run(command, folder, options.threads)
    (dataset,) = (folder / "datasets").iterdir()
    rows = Dataset(dataset).read()
    return rows.loc[~rows["is_warmup"] & (rows["phase"] == DECODE), TARGET].to_numpy()


def theirs(bin_folder: Path, launcher: str, model: Path, folder: Path, options: argparse.Namespace) -> dict:
    """Measure with optimum-benchmark; return its report."""
    (folder / "beside.yaml").write_text(CONFIG)
    command = [
        *(str(bin_folder / "optimum-benchmark"), "--config-dir", str(folder), "--config-name", "beside"),
        *(f"launcher={launcher}", f"backend.model={model}", "backend.device=cpu", "hydra.run.dir=run"),
        *("backend.task=text-generation", "backend.library=transformers", "backend.model_type=mistral"),
        f"scenario.iterations={options.iterations}",
        *("scenario.duration=0", f"scenario.warmup_runs={WARMUP_TOKENS // 2}"),
        *("hydra.job.chdir=true", "+scenario.input_shapes.batch_size=1"),
        f"+scenario.input_shapes.sequence_length={options.prompt_tokens}",
        f"+scenario.generate_kwargs.max_new_tokens={options.new_tokens}",
        f"+scenario.generate_kwargs.min_new_tokens={options.new_tokens}",
    ]
    # With the inline launcher it fails behind its report: it cannot write its own configuration any more.
    run(command, folder, options.threads, result=REPORT)
    return json.loads((folder / REPORT).read_text())


def corrected(values: np.ndarray, iterations: int, new_tokens: int) -> np.ndarray:
    """Set optimum-benchmark's list of per-token latencies right, from its values alone.

    Iteration k appended the first k·N-1 gaps between all events; the last list holds each gap once. Of those,
    every N-th is no token: it leads from one generate() to the next.
    """
    lengths = [new_tokens * k - 1 for k in range(1, iterations + 1)]
    assert len(values) == sum(lengths), f"{len(values)} values, where {sum(lengths)} were expected"
    lists = np.split(values, np.cumsum(lengths)[:-1])
    assert all(np.array_equal(part, lists[-1][: len(part)]) for part in lists), "not each a start of the last"
    gaps = np.arange(1, len(lists[-1]) + 1)
    return lists[-1][gaps % new_tokens != 0]


def measure(bin_folder: Path, model: Path, scratch: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Let the tools take turns; return a row a value."""
    found: list[pd.DataFrame] = []

    def keep(who: str, value: np.ndarray, turn: int) -> None:
        found.append(pd.DataFrame({"who": who, "turn": turn, "ms": value}))

    def our_turn(turn: int, folder: Path) -> None:
        keep("llmlat", ours(model, folder, options), turn)

    def their_turn(launcher: str) -> Callable[[int, Path], None]:
        def take(turn: int, folder: Path) -> None:
            report = theirs(bin_folder, launcher, model, folder, options)
            values = 1e3 * np.array(report["per_token"]["latency"]["values"])
            iterations = report["generate"]["latency"]["count"]
            keep(f"optimum-benchmark, {launcher}, as reported", values, turn)
            keep(
                f"optimum-benchmark, {launcher}, corrected",
                corrected(values, iterations, options.new_tokens),
                turn,
            )

        return take

    turns = [our_turn, their_turn("process"), their_turn("inline")]
    for turn in range(options.rounds):
        for index, take in enumerate(turns if turn % 2 == 0 else turns[::-1]):
            folder = scratch / f"{turn}-{index}"
            folder.mkdir()
            take(turn, folder)
            print(f"round {turn + 1} of {options.rounds}, {index + 1} of {len(turns)} done", flush=True)
    return pd.concat(found)


def table(values: pd.DataFrame) -> str:
    """Lay out what each said of a token: over all rounds, and how its median moved between them."""
    lines = [f"{'':<44}{'values':>8}{'p50, ms':>10}{'p99, ms':>10}   p50 by round"]
    for who, part in values.groupby("who", sort=False):
        p50, p99 = part["ms"].quantile([0.5, 0.99])
        rounds = " ".join(f"{median:.1f}" for median in part.groupby("turn")["ms"].median())
        lines.append(f"{who:<44}{len(part):>8}{p50:>10.2f}{p99:>10.2f}   {rounds}")
    return "\n".join(lines)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--iterations", type=int, default=5, help="generations a run; from 2 on theirs is wrong"
    )
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, for both")
    parser.add_argument("--environment", type=Path, default=CACHE, help="where theirs is installed")
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    bin_folder = make_environment(options.environment)
    scratch = Path(tempfile.mkdtemp(prefix="beside-optimum-"))
    try:
        model = save_model(bin_folder, scratch)
        values = measure(bin_folder, model, scratch, options)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(
        f"\nmistral-mini on the CPU, torch on {options.threads} threads, batch 1, "
        f"{options.prompt_tokens} prompt tokens, {options.new_tokens} new tokens, "
        f"{options.iterations} generations a run, "
        f"{options.rounds} rounds; {busy:.1f} processes ran on {os.cpu_count()} cores when it began\n"
    )
    print(table(values))
    print(
        WHY.format(
            theirs=run([str(bin_folder / "python"), "-c", VERSIONS], Path.cwd(), 1).strip(),
            ours=run([sys.executable, "-c", VERSIONS], Path.cwd(), 1).strip(),
        )
    )


if __name__ == "__main__":
    main()
