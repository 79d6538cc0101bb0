"""Draws the figure of after-prefill.md from one dataset, and prints its numbers.

python docs/results/draw_after_prefill.py outputs/datasets/<key> docs/results/after-prefill.svg
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmlat.dataset import Dataset
from llmlat.records import DECODE, PREFILL
from llmlat.report import style
from llmlat.steps import one_row_a_step

PREFILL_MS = {
    (0, 50): "up to 50 ms",
    (50, 100): "50 to 100 ms",
    (100, 200): "100 to 200 ms",
    (200, 500): "200 to 500 ms",
    (500, float("inf")): "above 500 ms",
}
SETTLED = 20  # tokens after which a step is taken to cost what it costs


def decode_steps(folder: Path) -> pd.DataFrame:
    """Return the decode steps, each with its prefill and beside settled ones of its kind."""
    rows = Dataset(folder).read()
    steps = one_row_a_step(rows[~rows["is_warmup"]])
    decode = steps[steps["phase"] == DECODE].copy()
    prefill_ms = steps[steps["phase"] == PREFILL].set_index("request_id")["token_latency_ms"]
    edges = [low for low, _ in PREFILL_MS] + [float("inf")]
    decode["prefill"] = pd.cut(decode["request_id"].map(prefill_ms), edges, labels=list(PREFILL_MS.values()))
    kind = ["batch_size", "prompt_tokens"]
    settled = decode[decode["token_index"] >= SETTLED].groupby(kind)["token_latency_ms"].median()
    decode = decode.join(settled.rename("settled_ms"), on=kind)
    decode["slower"] = 100 * (decode["token_latency_ms"] / decode["settled_ms"] - 1)
    return decode


def curves(axes: Axes, table: pd.DataFrame, title: str, label: str) -> None:
    """Draw a curve for each range of prefill times."""
    for colour, (name, values) in zip(style.RAMP, table.items(), strict=True):
        axes.plot(table.index, values, color=colour, lw=1.8, label=name)
    axes.set_title(title, fontsize=9.5, fontweight="bold")
    axes.set_xlabel("tokens since the first one")
    axes.set_ylabel(label)


def draw(by_token: pd.DataFrame) -> Figure:
    """Draw what a token costs beside a settled one, and the clock, both along the request."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves(
        left, by_token["slower"].unstack("prefill"), "Slower after a long prompt", "slower than settled, %"
    )
    curves(
        right,
        by_token["sm_clock_mhz"].unstack("prefill"),
        "The clock was lowered meanwhile",
        "GPU clock, MHz",
    )
    left.legend(title="the prompt took", title_fontsize=8)
    return figure


def main() -> None:
    """Draw the figure of one dataset into a file."""
    folder, target = map(Path, sys.argv[1:])
    decode = decode_steps(folder)
    grouped = decode.groupby(["prefill", "token_index"], observed=True)
    by_token = pd.DataFrame(
        {"slower": grouped["slower"].median(), "sm_clock_mhz": grouped["sm_clock_mhz"].mean()}
    )
    shown = [1, 2, 4, 8, 16, 24]
    print(by_token["slower"].unstack("prefill").loc[shown].round(1).to_string())
    print(by_token["sm_clock_mhz"].unstack("prefill").loc[shown].round(0).to_string())
    print(decode.groupby("prefill", observed=True)[["gpu_power_w"]].mean().round(0).to_string())
    print(decode.groupby("prefill", observed=True)["request_id"].nunique().to_string())
    with style.drawing():
        target.write_text(style.svg(draw(by_token), target.stem))


if __name__ == "__main__":
    main()
