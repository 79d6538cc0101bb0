"""What a sweep costs beyond measuring: 100 alphas over one dataset, one process, W&B offline.

    python benchmarks/sweep.py [n_jobs]

Prints the seconds a job after the first, which measures, the processor time among them, and the resident
memory at the tenth job and the last.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
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
Watched = tuple[float, dict[int, float], dict[int, int], dict[int, float]]
SWEEP = ["prompt_set=short", "tracking.mode=offline", "split=by_request"]


def main() -> None:
    """Run the sweep in a folder of its own, and watch it from outside."""
    n_jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    alphas = ",".join(f"{0.01 * 1.1**power:.5g}" for power in range(n_jobs))
    with tempfile.TemporaryDirectory(prefix="llmlat-sweep-") as folder:
        began, ended, memory, worked = _watch(
            [*TINY, *SWEEP, f"regressor.alpha={alphas}", "-m"], Path(folder)
        )
    first, last = min(ended), max(ended)
    each = (ended[last] - ended[first]) / max(last - first, 1)
    print(f"first job, which measures    {ended[first] - began:6.1f} s")
    print(f"each of the others           {each:6.2f} s")
    print(f"  of that, processor time    {(worked[last] - worked[first]) / max(last - first, 1):6.2f} s")
    print(f"all beyond the first         {ended[last] - ended[first]:6.1f} s")
    print(f"the sweep's end              {time.time() - ended[last]:6.1f} s")
    for number in sorted({min(10, last), last}):
        print(f"memory at job {number:<4}           {memory[number] / 2**20:6.0f} MiB")


def _watch(arguments: list[str], folder: Path) -> Watched:
    """Run a sweep, and note of each job: when it ended, the process's memory and its processor time then."""
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmlat", *arguments],
        cwd=folder,
        env={**os.environ, "WANDB_MODE": "offline"},
        stderr=subprocess.PIPE,
        text=True,
    )
    ended: dict[int, float] = {}
    memory: dict[int, int] = {}
    worked: dict[int, float] = {}
    watched = psutil.Process(process.pid)
    assert process.stderr is not None
    for line in process.stderr:
        found = re.match(r"\[ *(\d+)/\d+\]", line)
        if found:
            ended[int(found[1])] = time.time()
            memory[int(found[1])] = watched.memory_info().rss
            worked[int(found[1])] = sum(watched.cpu_times()[:2])
        else:
            print(line, end="", file=sys.stderr)
    process.wait()
    return began, ended, memory, worked


if __name__ == "__main__":
    main()
