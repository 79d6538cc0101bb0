"""Draws the headline figure of thesis.md from the datasets that thesis.sh measured.

python docs/results/draw_thesis.py outputs/datasets docs/results/thesis-headline.svg
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmlat.dataset import Dataset
from llmlat.records import DECODE
from llmlat.report import style
from llmlat.report.plots.axes import plain_ticks

SHOWN = 0.98  # the share of the rows that sets the height; the others are counted


def decode_rows(root: Path, engine: str, prompt_set: str) -> pd.DataFrame:
    """Return the counted decode rows that were measured with an engine over a prompt set."""
    for folder in sorted(root.iterdir()):
        dataset = Dataset(folder)
        identity = dataset.provenance["identity"]
        if (identity["engine"]["name"], identity["prompt_set"]) == (engine, prompt_set):
            rows = dataset.read()
            return rows[(rows["phase"] == DECODE) & ~rows["is_warmup"]]
    raise SystemExit(f"{root} holds no dataset of engine {engine} over {prompt_set}; run thesis.sh first.")


def dots(axes: Axes, rows: pd.DataFrame, colour: str, label: str) -> None:
    """Draw a point a token."""
    axes.scatter(
        rows["context_length"], rows["token_latency_ms"], s=7, color=colour, alpha=0.6, label=label, lw=0
    )


def finish(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    """Give a panel its title and axes, and count what lies above it."""
    top = float(rows["token_latency_ms"].quantile(SHOWN)) * 1.1
    above = int((rows["token_latency_ms"] > top).sum())
    axes.set_ylim(0, top)
    axes.set_title(title, fontsize=9.5, fontweight="bold")
    axes.set_xlabel(f"tokens in the context ({above} slower tokens are above the frame)")
    axes.legend(loc="lower right", markerscale=2)
    plain_ticks(axes, "x")
    plain_ticks(axes, "y")


def draw(root: Path) -> Figure:
    """Draw both panels."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    thesis = decode_rows(root, "eager", "thesis")
    dots(left, thesis[thesis["first_visit"]], style.PREFILL, "first token at this context length")
    dots(left, thesis[~thesis["first_visit"]], style.DECODE, "a context length seen before")
    finish(left, thesis, "The thesis's protocol: new context lengths are slow")
    left.set_ylabel("time of a token, ms")
    grid = {engine: decode_rows(root, engine, "length_grid") for engine in ("no_cache", "eager")}
    settled = {engine: rows[~rows["first_visit"]] for engine, rows in grid.items()}
    dots(right, settled["no_cache"], style.THEIRS, "without a key-value cache")
    dots(right, settled["eager"], style.DECODE, "with one")
    finish(right, pd.concat(settled.values()), "Once seen: only without a cache does context cost")
    return figure


def darkened(svg: str) -> str:
    """Return a figure in the colours of the dark scheme."""
    for drawn, dark in style.PALETTE.values():
        svg = svg.replace(drawn, dark)
    return svg


def main() -> None:
    """Draw the figure from the datasets of one folder into a file, and into one beside it for dark pages."""
    root, target = map(Path, sys.argv[1:])
    with style.drawing():
        drawn = style.svg(draw(root), target.stem)
    target.write_text(drawn)
    target.with_stem(f"{target.stem}-dark").write_text(darkened(drawn))


if __name__ == "__main__":
    main()
