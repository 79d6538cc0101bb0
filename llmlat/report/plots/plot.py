"""What a plot is: a figure and its words, or the reason why there is none."""

from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from llmlat.report import style


@dataclass(frozen=True)
class Plot:
    """A figure with the words around it.

    Attributes
    ----------
    name : str
        Names the file and the key under which a tracker logs it.
    title : str
        A plain heading.
    caption : str
        What to see, and what is drawn how; or why there is nothing to draw.
    figure : matplotlib.figure.Figure or None
        The drawing, or None where the data does not allow it.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None

    @cached_property
    def svg(self) -> str | None:
        """The figure as a standalone SVG; None where there is no figure."""
        return None if self.figure is None else style.svg(self.figure, self.name)
