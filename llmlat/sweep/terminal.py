"""What the terminal says of a sweep: what was chosen, and a line a job, within 80 characters."""

import io
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from llmlat.report.terminal import ASCII
from llmlat.report.wording import number
from llmlat.sweep import story
from llmlat.sweep.choose import Choice
from llmlat.sweep.jobs import DONE
from llmlat.sweep.overrides import in_short
from llmlat.sweep.summary import Summary
from llmlat.sweep.tables import with_spread

WIDTH = 80
MAX_JOBS = 40  # with more, the terminal shows those without a result and the chosen ones
STYLES = {"done": "green", "failed": "bold red", "killed": "bold yellow", "not begun": "yellow"}
TO_ASCII = {**ASCII, ord("─"): "-", ord("━"): "-"}


def terminal_lines(summary: Summary, plain: bool | None = None, ascii_only: bool | None = None) -> list[str]:
    """Return the lines that the terminal shows of a sweep.

    Parameters
    ----------
    summary : Summary
    plain : bool, optional
        Whether to leave colours out; where standard output is no terminal, by default.
    ascii_only : bool, optional
        Whether to spell with ASCII alone; where standard output takes no other letters, by default.
    """
    plain = not sys.stdout.isatty() if plain is None else plain
    if ascii_only is None:
        ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    page = io.StringIO()
    console = Console(file=page, width=WIDTH, force_terminal=not plain, highlight=False, legacy_windows=False)
    for part in _parts(summary):
        console.print(part)
    text = page.getvalue().rstrip("\n")
    # A path is copied, so nothing may break it.
    lines = [*(line.rstrip() for line in text.split("\n")), f"Sweep       {summary.folder / 'sweep.html'}"]
    if ascii_only:
        lines = [line.translate(TO_ASCII).encode("ascii", "replace").decode("ascii") for line in lines]
    return lines


def _parts(summary: Summary) -> Iterator[RenderableType]:
    jobs = summary.jobs
    yield Text()
    yield Rule(Text(f"sweep · {summary.folder.resolve().name}", style="bold"), align="left", style="dim")
    yield Padding(Text(summary.sentence, style="bold"), (0, 1))
    matters = story.sensitivity(jobs, summary.swept)
    if matters:
        yield Padding(Text(matters), (0, 1))
    yield Padding(Text(story.scope(jobs, summary.swept), style="dim"), (0, 1))
    for start, rest in story.banners(jobs, summary.swept):
        yield Padding(Text.assemble((f"! {start} ", "bold yellow"), (rest, "yellow")), (1, 1, 0, 1))
    yield _jobs(summary)
    for choice in summary.choices:
        yield Padding(_chosen(choice), (0, 1))
    yield Text()


def _jobs(summary: Summary) -> RichTable:
    jobs = summary.jobs
    chosen = {job for choice in summary.choices for job in choice.jobs}
    if len(jobs) > MAX_JOBS:
        jobs = jobs[(jobs["status"] != DONE) | jobs["job"].isin(chosen)].head(MAX_JOBS)
    drawn = RichTable(box=box.SIMPLE_HEAD, border_style="dim", header_style="dim", padding=(0, 0, 0, 1))
    drawn.add_column("job", justify="right", overflow="fold")
    drawn.add_column("overrides", overflow="fold")
    drawn.add_column("validation\nMAE, ms", justify="right", no_wrap=True)
    drawn.add_column("test\nMAE, ms", justify="right", no_wrap=True)
    drawn.add_column("status", overflow="fold")
    for job in jobs.to_dict("records"):
        status = Text.assemble((job["status"], STYLES[job["status"]]), (_class_of(job), "dim"))
        errors = [number(job[name], 4) for name in ("validation_mae_ms", "mae_ms")]
        words = (Text(job["job"]), Text(job["overrides"]))
        drawn.add_row(*words, *errors, status, style="bold" if job["job"] in chosen else "")
    if len(jobs) < len(summary.jobs):
        drawn.caption = Text(f"{len(summary.jobs) - len(jobs)} more jobs; sweep.html has them all.")
    return drawn


def _class_of(job: Mapping[Any, Any]) -> str:
    # Its message stands above the table, once for all jobs that failed of it.
    return f" {job['error_class']}" if isinstance(job["error_class"], str) else ""


def _chosen(choice: Choice) -> Text:
    where = f"{in_short(choice.data)}: " if choice.data else ""
    setting = in_short(choice.setting) or "the only setting"
    validation = with_spread(choice.validation_mae_ms, choice.validation_sd_ms)
    test = with_spread(choice.test_mae_ms, choice.test_sd_ms)
    return Text.assemble(
        where, (setting, "bold"), f", validation MAE {validation} ms, then on test ", (f"{test} ms", "bold")
    )
