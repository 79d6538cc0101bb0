"""Results made readable: a terminal summary, figures, markdown and one self-contained page.

What is said is decided once (`tables`, `story`, `plots`), and each output only renders it, so that the page,
the markdown and the terminal never disagree.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from llmlat.files import write_atomically
from llmlat.report import plots, story
from llmlat.report.markdown import markdown
from llmlat.report.page import page
from llmlat.report.terminal import print_summary

__all__ = ["print_summary", "write"]


def write(
    folder: Path, metrics: Mapping[str, Any], rows: pd.DataFrame, predictions: pd.DataFrame
) -> dict[str, str]:
    """Write report.html, report.md and figures/*.svg into a run's folder, each whole or not at all.

    Parameters
    ----------
    folder : pathlib.Path
        The run's folder.
    metrics : Mapping
        As docs/metrics.md describes.
    rows : pandas.DataFrame
        Every token row, warm-up included.
    predictions : pandas.DataFrame
        The test rows with `predicted_ms`.

    Returns
    -------
    dict of str to str
        The figures that the data allowed, as SVG, by name.
    """
    found = plots.draw(metrics, rows, predictions)
    drawings = {name: plot.svg for name, plot in found.items() if plot.svg is not None}
    links = {name: f"figures/{name}.svg" for name in drawings}
    contents = {links[name]: svg for name, svg in drawings.items()}
    told = story.tell(metrics, found)
    contents["report.md"] = markdown(told, links)
    contents["report.html"] = page(metrics, told, drawings)
    for stale in set(found) - set(drawings):
        (folder / "figures" / f"{stale}.svg").unlink(missing_ok=True)
    for path, text in contents.items():
        write_atomically(folder / path, text.encode())
    return drawings
