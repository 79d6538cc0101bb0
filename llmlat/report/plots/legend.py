"""The legend above the axes: as many entries side by side as there is room for."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llmlat.report import style

# In font sizes, as matplotlib has them.
HANDLE, HANDLE_GAP, COLUMN_GAP, ROW_GAP, FRAME, OUTSIDE = 1.5, 0.4, 1.4, 0.45, 0.4, 0.2
ROW, BASELINE, MIDDLE = (
    1.0,
    0.76,
    0.35,
)  # a row, from its top to where words stand, and from there to a marker


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
    size = float(style.RC["legend.fontsize"])
    columns = np.array_split(np.array(entries, dtype=object), _columns(figure, entries, most))
    left = (FRAME + OUTSIDE) * size
    for column in columns:
        for row, entry in enumerate(column):
            down = FRAME + OUTSIDE + row * (ROW + ROW_GAP) + BASELINE
            _draw_entry(figure, entry, left, down * size, size)
        widest = max(style.width_of(str(entry.get_label()), size) for entry in column)
        left += widest + (HANDLE + HANDLE_GAP + COLUMN_GAP) * size
    rows = len(columns[0])
    return (rows * style.LINE_HEIGHT + (rows - 1) * ROW_GAP + 2 * FRAME + OUTSIDE) * size


def _draw_entry(figure: Figure, entry: Line2D, left: float, down: float, size: float) -> None:
    """Draw an entry whose words stand on a line so many points below the figure's top.

    As matplotlib's own legend does, whose boxes within boxes take longer than all that they hold.
    """
    width, height = style.POINTS * figure.get_size_inches()
    is_line = entry.get_linestyle() != "None"
    handle = (0.0, HANDLE * size) if is_line else (HANDLE * size / 2.0,)
    above = 1.0 - (down - MIDDLE * size) / height
    entry.set_data([(left + place) / width for place in handle], [above] * len(handle))
    entry.set_transform(figure.transFigure)
    figure.add_artist(entry)
    words = (left + (HANDLE + HANDLE_GAP) * size) / width, 1.0 - down / height
    figure.text(*words, str(entry.get_label()), fontsize=size, color=style.INK)


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
