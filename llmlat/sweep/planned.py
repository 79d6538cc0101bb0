"""All jobs of a sweep: those that left a folder, and those that its last command planned and never began."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llmlat.jobs.folder import SweepFolder
from llmlat.sweep.jobs import KILLED, NOT_BEGUN, Job, job_folders, read_job
from llmlat.sweep.overrides import parse


def all_jobs(folder: Path) -> list[Job]:
    """Return every job of a folder with jobs below it, in the order of their names."""
    paths = job_folders(folder)
    begun = [read_job(path, folder) for path in paths]
    jobs: list[Job] = []
    for sweep in sorted({folder, *(path.parent for path in paths)}):
        known = SweepFolder(sweep)
        here = [job for job in begun if (folder / job.name).parent == sweep]
        # An older sweep, or a folder of single runs, has noted nothing.
        jobs += _of_a_sweep(known, folder, here) if known.is_known else here
    return sorted(jobs, key=lambda job: _natural(job.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _of_a_sweep(sweep: SweepFolder, root: Path, begun: Sequence[Job]) -> Iterator[Job]:
    command = sweep.command
    number_of = {name: number for number, name in command["jobs"].items()}
    names = {(root / job.name).name for job in begun}
    for job in begun:
        said = command["lost"].get(number_of.get((root / job.name).name))
        yield _with_last_words(job, said) if job.status == KILLED else job
    for number, given in enumerate(map(parse, command["planned"])):
        name = command["jobs"].get(str(number))
        # What an earlier command ran, and this one has not come to, has its row already.
        if name in names or (name is None and any(job.overrides == given for job in begun)):
            continue
        name = name or _free_name(number, names)
        names.add(name)
        job = Job((sweep.path / name).relative_to(root).as_posix(), NOT_BEGUN, given)
        yield _with_last_words(job, command["lost"].get(str(number)))


def _free_name(number: int, taken: set[str]) -> str:
    """Return the name that a job's folder would get, were it to begin."""
    if str(number) not in taken:
        return str(number)
    return str(1 + max(int(name) for name in taken if name.isdecimal()))


def _with_last_words(job: Job, said: Sequence[str] | None) -> Job:
    """Return a job with what is known of how its process ended, if anything is."""
    if not said:
        return job
    return replace(job, status=KILLED, error=said[0], traceback_tail="\n".join(said[1:]) or None)
