"""The page of a sweep: one HTML file that asks the network for nothing, with the one script that sorts."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import llmlat
from llmlat import report
from llmlat.report import style
from llmlat.report.plots import Plot
from llmlat.sweep import plots, story, tables
from llmlat.sweep.choose import Choice, roles_of
from llmlat.sweep.heatmap import heat_maps
from llmlat.sweep.jobs import DONE, NOT_BEGUN
from llmlat.sweep.overrides import short_names

MAX_UNFINISHED = 20  # so many failures are told at length; the table has the reasons of all
HERE = Path(__file__).parent


def page(title: str, jobs: pd.DataFrame, swept: Sequence[str], choices: Sequence[Choice]) -> str:
    """Render a sweep as one self-contained HTML page.

    Parameters
    ----------
    title : str
        Names the sweep.
    jobs : DataFrame
        From `read_jobs`.
    swept : sequence of str
        The swept keys.
    choices : sequence of Choice
        From `choose`.
    """
    script = (HERE / "sort.js").read_text(encoding="utf-8")
    figures = _figures(jobs, swept)
    drawn = [plot for _, _, plots_of in figures for plot in plots_of if plot.figure is not None]
    environment = Environment(
        loader=FileSystemLoader([HERE, Path(report.__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("sweep.html.j2").render(
        title=title,
        result=story.result(jobs, choices),
        sensitivity=story.sensitivity(jobs, swept),
        scope=story.scope(jobs, swept),
        banners=story.banners(jobs, swept),
        choices=tables.choices_table(choices),
        maps=heat_maps(jobs, swept, choices),
        figures=figures,
        drawings={plot.name: _inlined(plot) for plot in drawn},
        unfinished=_unfinished(jobs)[:MAX_UNFINISHED],
        n_unfinished=int((jobs["status"] != DONE).sum()),
        table=tables.jobs_table(jobs, swept),
        version=llmlat.__version__,
        light=Markup(style.variables(0)),
        dark=Markup(style.variables(1)),
        script=Markup(script),
        script_hash=_hash_of(script),
    )


def _figures(jobs: pd.DataFrame, swept: Sequence[str]) -> list[tuple[str, str, list[Plot]]]:
    """Return each section's heading, what stands under it, and its figures."""
    with style.drawing():
        errors, paths = plots.error_plots(jobs, swept), plots.coefficient_paths(jobs, swept)
    found = [(f"The error over {plots.along_of(jobs, swept)}", "", errors)] if errors else []
    if paths:
        along = short_names([plots.path_key(jobs, swept) or ""])
        heading = f"What each input adds, over {next(iter(along.values()))}"
        bars = " Bars are one standard deviation over seeds." if roles_of(swept).seeds else ""
        intro = "Scaled coefficients: milliseconds for one standard deviation of the input." + bars
        found.append((heading, intro, paths))
    return found


def _inlined(plot: Plot) -> Markup:
    assert plot.figure is not None
    with style.drawing():
        return Markup(style.inline(style.svg(plot.figure, plot.name), plot.name))


def _unfinished(jobs: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "name": job["job"],
            "status": job["status"],
            "overrides": job["overrides"] or "no overrides of its own",
            "reason": tables.reason(job),
            "has_begun": job["status"] != NOT_BEGUN,
            "tail": job["traceback_tail"] if isinstance(job["traceback_tail"], str) else "",
        }
        for job in jobs[jobs["status"] != DONE].to_dict("records")
    ]


def _hash_of(script: str) -> str:
    """Return the hash under which a content security policy lets this one script run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
