"""How long the command line takes to answer, and what a whole run costs.

    python benchmarks/startup.py [--runs 5]

Times whole processes. `--help` and `--cfg job` stand beside an interpreter that imports torch alone, which
is what they must not do; `+experiment=thesis` is timed with its peak memory.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time

COMMANDS = {
    "import torch (for comparison)": ["-c", "import torch"],
    "--help": ["-m", "llmlat", "--help"],
    "--cfg job": ["-m", "llmlat", "--cfg", "job"],
}


def seconds(arguments: list[str], folder: str) -> float:
    """Return how long a Python process with these arguments runs."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Time the commands and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            taken = [seconds(arguments, folder) for _ in range(runs + 1)][1:]
            print(
                f"{name}: {statistics.median(taken):.2f} s "
                f"(median of {runs}; {min(taken):.2f} to {max(taken):.2f})"
            )
        # Peak memory of finished children is a maximum, so the heaviest command comes last.
        taken_s = seconds(["-m", "llmlat", "+experiment=thesis", "tracking.mode=offline"], folder)
        peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(f"+experiment=thesis: {taken_s:.0f} s, {peak_bytes / 1e9:.2f} GB peak (at most 90 s and 2 GB)")


if __name__ == "__main__":
    main()
