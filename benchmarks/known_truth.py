"""Whether llmlat's statements are true: of rows whose truth is known, over many seeds.

    python benchmarks/known_truth.py [--seeds 50] [--only gap verdict]

Prints a line for each statement of `benchmarks/truths/`: what is said, of which truth, how often it held (or
what it came to, where it is a number), and what it must reach. Ends with 1 where one does not.
"""

import argparse
import os
import sys
import time
import warnings

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import truths  # noqa: E402 - threads are set before anything reads them

HEADER = "| statement | truth | it must | it did | |\n|---|---|---|---|---|"


def main() -> None:
    """Ask every statement of every seed, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=50, help="of how many seeds each is asked")
    arguments.add_argument("--only", nargs="*", default=[], help="what the statements' names begin with")
    asked = arguments.parse_args()
    warnings.simplefilter("ignore")
    print(HEADER, flush=True)
    all_hold = True
    for one in truths.statements(asked.only):
        start = time.monotonic()
        outcome = truths.ask(one, range(asked.seeds))
        print(line(outcome), flush=True)
        print(f"{one.name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        all_hold &= outcome.holds()
    sys.exit(0 if all_hold else 1)


def line(outcome: truths.Outcome) -> str:
    """Return a row of the table."""
    one = outcome.statement
    mark = "" if outcome.holds() else "✗"
    return f"| {one.says} | {one.truth} | {_target(one)} | {_came_to(outcome)} | {mark} |"


def _target(one: truths.Statement) -> str:
    if one.at_least is not None and one.at_most is not None:
        return f"{one.at_least:g} to {one.at_most:g}"
    return f"at most {one.at_most:g}" if one.at_least is None else f"at least {one.at_least:g}"


def _came_to(outcome: truths.Outcome) -> str:
    withheld = len(outcome.answers) - len(outcome.told)
    said = "" if outcome.mean is None else f"{outcome.mean:.3g}"
    return f"{said}{', ' if said and withheld else ''}{f'withheld {withheld} times' if withheld else ''}"


if __name__ == "__main__":
    main()
