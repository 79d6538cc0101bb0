"""A table as data: its cells are spelled once, and every output renders the same ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column's heading.

    Attributes
    ----------
    header : str
        What stands above the cells.
    right : bool
        Whether the cells are numbers, set against the right edge.
    roomy : bool
        Whether the terminal, with its 80 characters, leaves the column out.
    over_floor : bool
        Whether the column is in multiples of the noise floor, and goes where there is none.
    """

    header: str
    right: bool = True
    roomy: bool = False
    over_floor: bool = False


@dataclass(frozen=True)
class Table:
    """Headings, rows of spelled cells, and a remark below.

    Attributes
    ----------
    title : str
        What the table shows.
    columns : tuple of Column
        The headings.
    rows : tuple of tuple of str
        The cells, a row at a time.
    note : str
        A remark below the table, or an empty string.
    strong : int or None
        The row that the reader came for.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    strong: int | None = None

    def without_floor(self) -> "Table":
        """Return the table without the columns that need a noise floor."""
        kept = [i for i, column in enumerate(self.columns) if not column.over_floor]
        return Table(
            self.title,
            tuple(self.columns[i] for i in kept),
            tuple(tuple(row[i] for i in kept) for row in self.rows),
            self.note,
            self.strong,
        )
