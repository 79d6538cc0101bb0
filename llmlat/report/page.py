"""The page: one HTML file with its styles and figures inside, that asks the network for nothing."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from llmlat.report import style
from llmlat.report.story import Story


def page(metrics: Mapping[str, Any], told: Story, drawings: Mapping[str, str]) -> str:
    """Render the report as one self-contained HTML page; `drawings` holds each figure as a standalone SVG."""
    return _template().render(
        title=f"{metrics.get('experiment') or 'llmlat'}: {metrics['model']}",
        metrics=metrics,
        story=told,
        drawings={name: Markup(style.inline(svg, name)) for name, svg in drawings.items()},
        light=Markup(style.variables(0)),
        dark=Markup(style.variables(1)),
    )


@functools.cache
def _template() -> Template:
    """Return the template, which is compiled once for all jobs of a sweep."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = lambda part, name: type(part).__name__ == name
    return environment.get_template("page.html.j2")
