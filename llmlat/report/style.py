"""How figures look: one palette, drawn in light colours and swapped for CSS variables inside the page.

Text stays text, measured in DejaVu Sans (the widest of the usual faces, shipped with matplotlib) and shown in
the reader's own sans serif, so nothing is fetched and nothing overlaps. Point layers may be rasterized,
and a raster cannot follow the page's colours: data colours are mid-tones that read on white and on black.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

FACES = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# name: (drawn, and shown in light; shown in dark). Each hex is used once, so that swapping it is exact.
PALETTE = {
    "paper": ("#fefefe", "#171c24"),
    "ink": ("#1c2431", "#e6ebf2"),
    "muted": ("#5b6676", "#9aa6b5"),
    "grid": ("#e2e6eb", "#2b333e"),
    "strip": ("#f4f1ea", "#211f1d"),
    "line": ("#2b3442", "#f3f6fa"),
    "decode": ("#2f80c3", "#4b9fe0"),
    "prefill": ("#dd6b20", "#f08c42"),
    "theirs": ("#8a6bbf", "#b39ae0"),
    "floor": ("#0f8a6c", "#3fc3a0"),
    "guess": ("#98a3b1", "#667283"),
    "ramp0": ("#39a6a3", "#39b5b1"),
    "ramp1": ("#3d8ed1", "#4d9fe3"),
    "ramp2": ("#6670d6", "#7d87ee"),
    "ramp3": ("#9859c4", "#b173df"),
    "ramp4": ("#c0478b", "#d95fa4"),
}
RAMP = tuple(PALETTE[f"ramp{i}"][0] for i in range(5))
PAPER, INK, MUTED, GRID, STRIP, LINE = (
    PALETTE[name][0] for name in ("paper", "ink", "muted", "grid", "strip", "line")
)
DECODE, PREFILL, THEIRS, FLOOR, GUESS = (
    PALETTE[name][0] for name in ("decode", "prefill", "theirs", "floor", "guess")
)
PHASE_COLOURS = {"decode": DECODE, "prefill": PREFILL}

RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    # A number, as matplotlib looks a word such as medium up for every text.
    "axes.labelsize": 8.5,
    "axes.titlecolor": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 5.0,
    "axes.titley": 1.0,  # given, so that matplotlib does not look for words above the axes to avoid
    "axes.labelpad": 4.0,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    # The grid shows where ticks are; a mark each would be a drawing each.
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.major.pad": 5.0,
    "ytick.major.pad": 5.0,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "legend.labelcolor": INK,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
}


def shades(n: int) -> list[str]:
    """Return `n` colours of the ramp, at most all of them, as far from each other as can be."""
    n = min(n, len(RAMP))
    return [RAMP[round(i * (len(RAMP) - 1) / max(1, n - 1))] for i in range(n)]


POINTS = 72.0  # an inch
LINE_HEIGHT = 1.17  # of a line of text, in font sizes


@lru_cache(maxsize=4096)
def width_of(text: str, size: float) -> float:
    """Return a text's width, in points as its font's size is, as it is measured for every figure."""
    font = FontProperties(family=RC["font.family"], size=size)
    return float(TextToPath().get_text_width_height_descent(text, font, False)[0])


@contextmanager
def drawing() -> Iterator[None]:
    """Draw under the house style, whatever the caller's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def svg(figure: Figure, name: str) -> str:
    """Render a figure as a standalone SVG, the same bytes each time."""
    target = io.StringIO()
    with mpl.rc_context({**RC, "svg.hashsalt": f"llmlat {name}"}):
        figure.savefig(target, format="svg", dpi=180, metadata={"Date": None, "Title": name})
    return target.getvalue().replace("'DejaVu Sans'", FACES)


def inline(markup: str, name: str) -> str:
    """Make a standalone SVG part of a page: the page's colours, no prologue, ids of its own."""
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", markup[markup.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r"<title>.*?</title>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", body)
    body = re.sub(
        r'<svg ([^>]*?)\bwidth="[^"]*"',
        r"<svg \1",
        re.sub(r'\bheight="[\d.]+pt"', "", body, count=1),
        count=1,
    )
    body = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", body)
    for variable, (drawn, _) in PALETTE.items():
        body = body.replace(drawn, f"var(--{variable})")
    return body


def variables(scheme: int) -> str:
    """Return the palette as CSS declarations, of the light scheme (0) or the dark one (1)."""
    return " ".join(f"--{name}: {shades[scheme]};" for name, shades in PALETTE.items())
