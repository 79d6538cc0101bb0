"""The page: one HTML file with its styles and figures inside, that asks the network for nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmlat.report import story, style, tables
from llmlat.report.plots import Plot


def page(metrics: Mapping[str, Any], plots: Mapping[str, Plot], drawings: Mapping[str, str]) -> str:
    """Render the report as one self-contained HTML page.

    Parameters
    ----------
    metrics : Mapping
        As docs/metrics.md describes.
    plots : Mapping of str to Plot
        The figures with their words.
    drawings : Mapping of str to str
        The standalone SVG of each figure that there is.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = lambda part, name: type(part).__name__ == name
    return environment.get_template("page.html.j2").render(
        title=f"{metrics.get('experiment') or 'llmlat'}: {metrics['model']}",
        metrics=metrics,
        result=story.result(metrics),
        scope=story.scope(metrics),
        banners=story.banners(metrics),
        tiles=tables.key_numbers(metrics),
        sections=story.sections(metrics, plots),
        drawings={name: Markup(style.inline(svg, name)) for name, svg in drawings.items()},
        light=Markup(style.variables(0)),
        dark=Markup(style.variables(1)),
    )
