"""Where axes stand in a figure: margins in points, from the words that stand in them.

matplotlib's own layout engines learn how large words are by drawing the figure, and then draw it again: more
than half of what a report cost. Here the font is asked, once, when all words are known.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from llmlat.report import style
from llmlat.report.plots.legend import draw_legend

WIDTH, HEIGHT = 5.0, 3.7  # inches
EDGE = 4.0  # points between a figure's edge and its outermost words
BETWEEN = 8.0  # points between neighbouring axes, beyond what is written there
WORD_GAP = 4.0  # points between the words of neighbouring ticks
TEXT = float(style.RC["font.size"])
LINE = style.LINE_HEIGHT * TEXT
TICK_PAD, LABEL_PAD, TITLE_PAD = (
    float(style.RC[f"{name}pad"]) for name in ("xtick.major.", "axes.label", "axes.title")
)


def new_figure(height: float = HEIGHT) -> Figure:
    """Return an empty figure, `height` inches high; `finish` lays it out when all is drawn."""
    return Figure(figsize=(WIDTH, height))


def finish(figure: Figure, entries: Iterable[Line2D] = (), columns: int = 3) -> None:
    """Put the legend above the axes, and make room for it and for every word beside them.

    Parameters
    ----------
    figure : Figure
        With all of its axes, their limits and their words.
    entries : iterable of Line2D
        What the legend explains; none for no legend.
    columns : int
        At most so many entries stand side by side.
    """
    legend = draw_legend(figure, list(entries), columns)
    rooms = [_room(axes) for axes in figure.axes]
    _place(figure, rooms, legend)
    for room in rooms:
        _place_labels(figure, room)
        _thin_out(figure, room)


@dataclass(frozen=True)
class _Room:
    """What axes need around them, in points, and where they stand in their grid.

    Of that, `left_ticks` and `lower_ticks` are for the ticks' words; `widest` is the widest of those below.
    """

    axes: Axes
    row: int
    column: int
    shape: tuple[int, int]
    left_ticks: float
    lower_ticks: float
    left: float
    below: float
    above: float
    right: float
    widest: float


def _room(axes: Axes) -> _Room:
    spec = axes.get_subplotspec()
    assert spec is not None
    along = [style.width_of(text, TEXT) for text in _settle(axes.xaxis, "labelbottom")]
    up = [style.width_of(text, TEXT) for text in _settle(axes.yaxis, "labelleft")]
    left_ticks = TICK_PAD + max(up) if up else 0.0
    lower_ticks = TICK_PAD + LINE if along else 0.0
    label = LABEL_PAD + LINE
    return _Room(
        axes,
        spec.rowspan.start,
        spec.colspan.start,
        spec.get_gridspec().get_geometry(),
        left_ticks,
        lower_ticks,
        left=left_ticks + (label if axes.get_ylabel() else 0.0),
        below=lower_ticks + (label if axes.get_xlabel() else 0.0),
        above=TITLE_PAD + LINE if axes.get_title(loc="left") else 0.0,
        # The last tick may stand at the axes' very edge, with its words centred on it.
        right=along[-1] / 2.0 if along else 0.0,
        widest=max(along, default=0.0),
    )


def _settle(axis: Axis, side: str) -> list[str]:
    """Keep only the ticks in sight, since the others cost as much, and return the words beside them."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    places = [place for place in axis.get_majorticklocs() if low - slack <= place <= high + slack]
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    return list(axis.get_major_formatter().format_ticks(places)) if axis.get_tick_params()[side] else []


def _place(figure: Figure, rooms: list[_Room], legend: float) -> None:
    """Set the margins, and the space between rows and between columns."""
    n_rows, n_columns = rooms[0].shape
    rows = [[room for room in rooms if room.row == row] for row in range(n_rows)]
    columns = [[room for room in rooms if room.column == column] for column in range(n_columns)]
    left = [max(room.left for room in column) for column in columns]
    right = [max(room.right for room in column) for column in columns]
    above = [max(room.above for room in row) for row in rows]
    below = [max(room.below for room in row) for row in rows]
    across = [BETWEEN + a + b for a, b in zip(left[1:], right[:-1], strict=True)]
    down = [BETWEEN + a + b for a, b in zip(above[1:], below[:-1], strict=True)]
    width, height = _size(figure)
    free = width - left[0] - right[-1] - 2 * EDGE
    high = height - legend - above[0] - below[-1] - 2 * EDGE
    figure.subplots_adjust(
        left=(EDGE + left[0]) / width,
        right=1.0 - (EDGE + right[-1]) / width,
        bottom=(EDGE + below[-1]) / height,
        top=1.0 - (EDGE + legend + above[0]) / height,
        wspace=_in_axes(max(across, default=0.0), free, n_columns),
        hspace=_in_axes(max(down, default=0.0), high, n_rows),
    )


def _in_axes(gap: float, total: float, n: int) -> float:
    """Return a gap as matplotlib takes it: as a share of the mean of `n` axes."""
    return n * gap / (total - (n - 1) * gap)


def _place_labels(figure: Figure, room: _Room) -> None:
    """Put the axes' own words beyond their ticks' ones, and where they do not leave the figure."""
    width, height = _size(figure)
    place = room.axes.get_position()
    left, across, up = place.x0 * width, place.width * width, place.height * height
    half = style.width_of(room.axes.get_xlabel(), TEXT) / 2.0
    centre = min(max(left + across / 2.0, half + EDGE), width - half - EDGE)
    room.axes.xaxis.set_label_coords((centre - left) / across, -(room.lower_ticks + LABEL_PAD) / up)
    room.axes.yaxis.set_label_coords(-(room.left_ticks + LABEL_PAD) / across, 0.5)


def _thin_out(figure: Figure, room: _Room) -> None:
    """Leave ticks out below the axes until the words of those that are left stand apart."""
    places = np.asarray(room.axes.get_xticks(), dtype=float)
    if not room.widest or len(places) < 2:
        return
    in_pixels = room.axes.transData.transform(np.column_stack([places, np.ones_like(places)]))
    apart = np.diff(in_pixels[:, 0]).min() * style.POINTS / figure.dpi
    step = math.ceil((room.widest + WORD_GAP) / apart)
    room.axes.xaxis.set_major_locator(FixedLocator(places[::step].tolist()))


def _size(figure: Figure) -> tuple[float, float]:
    """Return a figure's width and height in points."""
    width, height = figure.get_size_inches()
    return float(width) * style.POINTS, float(height) * style.POINTS
