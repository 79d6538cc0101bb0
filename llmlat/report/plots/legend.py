"""The legend above the axes: as many entries side by side as there is room for."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmlat.report import style

# In font sizes, as matplotlib has them.
HANDLE, HANDLE_GAP, COLUMN_GAP, ROW_GAP, FRAME, OUTSIDE = 1.5, 0.4, 1.4, 0.45, 0.4, 0.2


def key(colour: str, label: str, marker: str = "o", line: bool = False) -> Line2D:
    """Return a legend's entry."""
    if line:
        return Line2D([], [], color=colour, linewidth=1.4, label=label)
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        color=colour,
        markeredgecolor="none",
        markersize=5.0,
        label=label,
    )


def draw_legend(figure: Figure, entries: Sequence[Line2D], most: int) -> float:
    """Draw the legend at the figure's top, and return its height in points; 0 without entries."""
    if not entries:
        return 0.0
    columns = _columns(figure, entries, most)
    figure.legend(
        handles=list(entries),
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        columnspacing=COLUMN_GAP,
        handlelength=HANDLE,
        handletextpad=HANDLE_GAP,
        labelspacing=ROW_GAP,
        borderpad=FRAME,
        borderaxespad=OUTSIDE,
    )
    rows = -(-len(entries) // columns)
    in_sizes = rows * style.LINE_HEIGHT + (rows - 1) * ROW_GAP + 2 * FRAME + OUTSIDE
    return float(in_sizes * style.RC["legend.fontsize"])


def _columns(figure: Figure, entries: Sequence[Line2D], most: int) -> int:
    """Return how many columns fit; matplotlib fills one after the other."""
    size = style.RC["legend.fontsize"]
    room = figure.get_figwidth() * style.POINTS
    widths = [
        style.width_of(str(entry.get_label()), size) + (HANDLE + HANDLE_GAP) * size for entry in entries
    ]
    for columns in range(min(most, len(entries)), 1, -1):
        total = sum(max(column) for column in np.array_split(widths, columns))
        if total + ((columns - 1) * COLUMN_GAP + 2 * (FRAME + OUTSIDE)) * size <= room:
            return columns
    return 1
