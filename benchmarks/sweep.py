"""What a sweep costs beyond measuring: 100 alphas over one dataset, one command, W&B offline.

    python benchmarks/sweep.py [n_jobs]

The same command is run with one alpha first, which measures, and then with all of them in another folder,
which measures as well: what the second takes longer is what the other jobs cost, from composing them to the
sweep's end. Prints that in seconds and in processor time, of every process that took part, and the resident
memory of them all at the tenth job and the last.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TINY = [
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=128",
    "model.architecture.num_hidden_layers=2",
    "model.architecture.num_attention_heads=4",
    "model.architecture.num_key_value_heads=2",
    "model.architecture.head_dim=16",
]
SWEEP = ["prompt_set=short", "tracking.mode=offline", "split=by_request"]


@dataclass(frozen=True)
class Watched:
    """A sweep, seen from outside: how long it took, what it worked, and its memory at each line of a job."""

    seconds: float
    processor_seconds: float
    memory_bytes: list[int]


def main() -> None:
    """Run both sweeps, each in a folder of its own."""
    n_jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    alphas = [f"{0.01 * 1.1**power:.5g}" for power in range(n_jobs)]
    one, all_of_them = _watch(alphas[:1]), _watch(alphas)
    beyond = all_of_them.seconds - one.seconds
    worked = all_of_them.processor_seconds - one.processor_seconds
    print(f"one job, which measures      {one.seconds:6.1f} s")
    print(f"all beyond the first         {beyond:6.1f} s")
    print(f"  each of them               {beyond / max(n_jobs - 1, 1):6.2f} s")
    print(f"  processor time of each     {worked / max(n_jobs - 1, 1):6.2f} s")
    for number in sorted({min(10, n_jobs), n_jobs}):
        print(f"memory at job {number:<4}           {all_of_them.memory_bytes[number - 1] / 2**20:6.0f} MiB")


def _watch(alphas: list[str]) -> Watched:
    """Run a sweep to its end."""
    with tempfile.TemporaryDirectory(prefix="llmlat-sweep-") as folder:
        before, began = _processor_seconds(), time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "llmlat", *TINY, *SWEEP, f"regressor.alpha={','.join(alphas)}", "-m"],
            cwd=Path(folder),
            env={**os.environ, "WANDB_MODE": "offline"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        memory_bytes = []
        for line in process.stderr:
            if re.match(r"\[ *\d+/\d+\]", line):
                memory_bytes.append(_memory_bytes(process.pid))
            else:
                print(line, end="", file=sys.stderr)
        assert process.wait() == 0
        return Watched(time.perf_counter() - began, _processor_seconds() - before, memory_bytes)


def _memory_bytes(pid: int) -> int:
    """Return the resident memory of a process and of all below it."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def _processor_seconds() -> float:
    """Return what all processes have worked that this one has waited for, and those that they have."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
