"""What a run folder says of its W&B run: which it is, and whether it has been sent."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmlat.files import read_object, write_json

NOTE = Path("wandb") / "run.json"
MOST_NAMED = 3


@dataclass(frozen=True)
class RunNote:
    """A W&B run, as its run folder remembers it.

    Attributes
    ----------
    id, project : str
    entity, group : str or None
        As W&B knows them; the entity is unknown until a run is online.
    url : str or None
        The run's address, where it began online.
    folder : str
        W&B's own folder of the run, which `wandb sync` takes.
    arrived : bool
        Whether the server has all of it.
    """

    id: str
    project: str
    entity: str | None
    group: str | None
    url: str | None
    folder: str
    arrived: bool = False

    @property
    def is_sent(self) -> bool:
        """Whether the server has all of it, be it through a later `wandb sync`, which leaves its mark."""
        return self.arrived or any(Path(self.folder).glob("*.wandb.synced"))

    @property
    def sync(self) -> str:
        """The command that sends the run."""
        return _command(self.url is not None, shlex.quote(self.folder))


def is_in_sweep(folder: Path) -> bool:
    """Tell whether a run folder is a sweep's job: Hydra leaves its mark in the folder above."""
    return (folder.resolve().parent / "multirun.yaml").is_file()


def group_of(name: str | None, folder: Path) -> str | None:
    """Return the group of a run: its name, and the sweep's folder where Hydra keeps the run in a sweep.

    Sweeps of one experiment stay apart, and the runs of a sweep that is resumed in its folder together.
    """
    if not is_in_sweep(folder):
        return name
    sweep = folder.resolve().parent
    return f"{name}-{sweep.name}" if name else sweep.name


def note_of(run: Any) -> RunNote:
    """Return the note of an open run."""
    online = not run.offline
    return RunNote(
        id=run.id,
        project=run.project,
        entity=run.entity or None,
        group=run.group or None,
        url=run.url if online else None,
        folder=run.settings.sync_dir,
    )


def write_note(folder: Path, note: RunNote) -> None:
    """Write a note into a run folder, whole or not at all; a sweep that is moved keeps its runs."""
    relative = replace(note, folder=os.path.relpath(note.folder, folder.resolve()))
    write_json(folder / NOTE, asdict(relative))


def read_notes(sweep_folder: Path) -> list[RunNote]:
    """Return the notes of a sweep's jobs; a damaged one counts as none."""
    found = []
    for path in sorted(sweep_folder.rglob(str(NOTE))):
        with contextlib.suppress(OSError, ValueError, TypeError):
            note = RunNote(**read_object(path))
            found.append(replace(note, folder=str(path.parents[1] / note.folder)))
    return found


def sync_lines(sweep_folder: Path, notes: Sequence[RunNote]) -> list[str]:
    """Return the commands that send what has not been sent, as few as will do."""
    unsent = [note for note in notes if not note.is_sent]
    offline = [note for note in unsent if note.url is None]
    online = [note.sync for note in unsent if note.url is not None]
    if len(offline) <= MOST_NAMED:
        return [*(note.sync for note in offline), *online]
    pattern = f"{shlex.quote(str(sweep_folder))}/*/wandb/offline-run-*"
    return [_command(False, pattern), *online]


def _command(began_online: bool, what: str) -> str:
    # wandb sync passes over what began online, unless told.
    return f"wandb sync {'--include-online ' if began_online else ''}{what}"
