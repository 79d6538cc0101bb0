"""The report as GitHub-flavoured markdown, with its figures linked from beside it."""

import re
from collections.abc import Mapping

from llmlat.report.plots import Plot
from llmlat.report.story import Figures, Formula, Part, Section, Story, Text, Verdict
from llmlat.report.table import Table


def markdown(told: Story, drawn: Mapping[str, str]) -> str:
    """Render the report as markdown; `drawn` holds the path of each figure, relative to the report."""
    blocks = [f"# {escaped(told.result)}", escaped(told.scope)]
    blocks += [f"> **{escaped(start)}** {escaped(rest)}" for start, rest in told.banners]
    blocks.append("\n".join(f"- **{name}:** {escaped(v)} ({escaped(what)})" for name, v, what in told.tiles))
    for section in told.sections:
        blocks += _section(section, drawn)
    return "\n\n".join(blocks) + "\n"


def _section(section: Section, drawn: Mapping[str, str]) -> list[str]:
    blocks = [f"## {escaped(section.heading)}"]
    for part in section.parts:
        if isinstance(part, Table) and part.title != section.heading:
            blocks.append(f"**{escaped(part.title)}**")
        blocks += _part(part, drawn)
    return blocks


def _part(part: Part, drawn: Mapping[str, str]) -> list[str]:
    match part:
        case Text(text):
            return [escaped(text)]
        case Formula(label, text):
            return [f"{escaped(label)}:", f"```\n{text.replace('`', ' ')}\n```"]
        case Verdict(symbol, verdict, claim, evidence):
            return [f"{symbol} **{escaped(claim)}** ({escaped(verdict)})  \n{escaped(evidence)}"]
        case Figures(plots):
            return [block for plot in plots for block in _figure(plot, drawn)]
        case Table():
            return [table(part), *([escaped(part.note)] if part.note else [])]


def _figure(plot: Plot, drawn: Mapping[str, str]) -> list[str]:
    words = f"**{escaped(plot.title)}.** {escaped(plot.caption)}"
    return [f"![{escaped(plot.title)}]({drawn[plot.name]})", words] if plot.name in drawn else [words]


def table(part: Table) -> str:
    """Render a table's headings and rows."""
    header = [escaped(column.header) for column in part.columns]
    rule = ["---:" if column.right else ":---" for column in part.columns]
    rows = [[escaped(cell) for cell in row] for row in part.rows]
    if part.strong is not None:
        rows[part.strong] = [f"**{cell}**" if cell else "" for cell in rows[part.strong]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *rows])


def escaped(text: str) -> str:
    """Take the markup out of words that were not written as markup, and keep them on one line."""
    flat = " ".join(text.split("\n")).replace("\r", " ").replace("&", "&amp;").replace("<", "&lt;")
    flat = re.sub(r"([\\`*\[\]|~])", r"\\\1", flat)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", flat)
