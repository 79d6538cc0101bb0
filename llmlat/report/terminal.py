"""The summary that a person reads in the terminal: 80 characters wide, and plain when piped."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.containers import Lines
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from llmlat.report import arena, error_tables, sentences, story, tables
from llmlat.report.table import Table
from llmlat.report.wording import NBSP

WIDTH = 100
STYLES = {"✓": "bold green", "✗": "bold red", "?": "bold yellow"}
ASCII = str.maketrans(
    {
        "\u2212": "-",
        "\u00d7": "x",
        "÷": "/",
        "\u2013": "-",
        "…": "...",
        "²": "^2",
        "±": "+-",
        "·": "-",
        "\u00a0": " ",
        "✓": "+",
        "✗": "x",
    }
)


HELD = "\ue000"  # in private use, as wide as a space, and none to rich


class Words(Text):
    """Text that stays together at no-break spaces, at which rich would break it."""

    def wrap(self, *arguments: Any, **options: Any) -> Lines:
        """Divide into lines of a width."""
        held = self.copy()
        held.plain = self.plain.replace(NBSP, HELD)
        lines = held.wrap(*arguments, **options)
        for line in lines:
            line.plain = line.plain.replace(HELD, NBSP)
        return lines


def print_summary(metrics: Mapping[str, Any], folder: Path, console: Console | None = None) -> None:
    """Print the result, the tables behind it, the verdicts and the notices.

    Parameters
    ----------
    metrics : Mapping
        As docs/metrics.md describes.
    folder : pathlib.Path
        The run's folder; its name tells this run from others in a sweep.
    console : rich.console.Console, optional
        Where to print; standard output by default.
    """
    console = console or Console(highlight=False)
    width = min(console.width, WIDTH)
    plain = console.options.ascii_only
    for part in _parts(metrics, folder, plain):
        console.print(part, width=width, highlight=False)


def _parts(metrics: Mapping[str, Any], folder: Path, plain: bool) -> Iterator[RenderableType]:
    def text(words: str, style: str = "") -> Text:
        return Words(_ascii(words) if plain else words, style=style)

    yield Text()
    yield Rule(
        text(f"{metrics.get('experiment') or 'llmlat'} · {folder.name}", "bold"), align="left", style="dim"
    )
    yield Padding(text(sentences.result(metrics), "bold"), (0, 1))
    yield Padding(text(sentences.scope(metrics), "dim"), (0, 1))
    for start, rest in story.banners(metrics):
        yield Padding(Words.assemble(text(f"! {start} ", "bold yellow"), text(rest, "yellow")), (1, 1, 0, 1))
    shown = [
        arena.table(metrics),
        tables.reference(metrics),
        error_tables.baselines(metrics),
        error_tables.by_phase(metrics),
    ]
    yield from (_table(table, text) for table in shown if table)
    yield from (Padding(text(remark), (0, 1, 1, 1)) for remark in sentences.remarks(metrics))
    yield from _formula(metrics, text)
    yield from (
        _table(table, text) for table in (tables.physics(metrics), tables.coefficients(metrics)) if table
    )
    yield from _verdicts(metrics, text)


def _ascii(words: str) -> str:
    return words.translate(ASCII).encode("ascii", "replace").decode("ascii")


def _table(table: Table, text: Any) -> RenderableType:
    drawn = RichTable(
        title=text(table.title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        border_style="dim",
        header_style="dim",
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )
    kept = [i for i, column in enumerate(table.columns) if not column.roomy]
    for i in kept:
        column = table.columns[i]
        drawn.add_column(
            text(column.header),
            justify="right" if column.right else "left",
            no_wrap=not column.header,
            overflow="fold",
        )
    for place, row in enumerate(table.rows):
        drawn.add_row(*(text(row[i]) for i in kept), style="bold" if place == table.strong else "")
    return Padding(drawn, (1, 1))


def _formula(metrics: Mapping[str, Any], text: Any) -> Iterator[RenderableType]:
    found = story.formulas(metrics)
    if found:
        yield Padding(text("The formula", "bold"), (0, 1))
    for formula in found:
        yield Padding(text(f"{formula.label}:", "dim"), (0, 1))
        yield Padding(text(formula.text), (0, 1, 0, 3))


def _verdicts(metrics: Mapping[str, Any], text: Any) -> Iterator[RenderableType]:
    found = story.verdicts(metrics)
    if found:
        yield Padding(text("What the thesis claims, and what this data says", "bold"), (1, 1, 0, 1))
    for verdict in found:
        grid = RichTable.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column()
        claim = Words.assemble(text(verdict.claim), text(f" ({verdict.verdict})", "dim"))
        grid.add_row(text(verdict.symbol, STYLES.get(verdict.symbol, "")), claim)
        grid.add_row("", text(verdict.evidence, "dim"))
        yield Padding(grid, (0, 1))
