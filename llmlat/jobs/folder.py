"""What a sweep's folder knows of its jobs: which configuration has which subfolder, and how far it is.

It is a file, `.jobs/state.json`, changed under a lock, since jobs may be processes of their own::

    {"folders": {"<hash of a resolved configuration>": "0", ...},
     "command": {"n_jobs": 20, "swept": ["regressor.alpha"], "started_at": 1793..., "jobs": {"0": "0", ...},
                 "planned": [["prompt_set=short", "regressor.alpha=0.1"], ...], "lost": {"3": [...]}}}

`jobs` are those that have begun, `planned` the overrides of all, `lost` what is known of processes that ended
without a word.

A job's subfolder is its number. Where a sweep is run again with another list of values, a configuration keeps
the subfolder that it had, and a new one gets a number that is free: no job writes into another's results.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from llmlat.files import read_object, write_json

log = logging.getLogger(__name__)

KNOWLEDGE = Path(".jobs")
STATE = KNOWLEDGE / "state.json"


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @property
    def is_known(self) -> bool:
        """Whether a command has noted anything here: older sweeps, and single runs, have not."""
        return (self.path / STATE).is_file()

    def begin_command(self, planned: Sequence[Sequence[str]] | None, swept: Sequence[str]) -> None:
        """Note that a command begins here, its jobs, and which keys it sweeps.

        Parameters
        ----------
        planned : sequence of sequence of str or None
            The overrides of each job; None where they are not known beforehand.
        swept : sequence of str
            The keys that it sweeps.
        """
        command = _a_command()
        command |= {"n_jobs": None if planned is None else len(planned), "swept": list(swept)}
        command |= {"planned": [list(overrides) for overrides in planned or []]}
        with self._changing() as state:
            state["command"] = command

    def note_lost(self, number: int, said: Sequence[str]) -> None:
        """Note what is known of a job whose process ended without a word: its last lines, the gist first."""
        with self._changing() as state:
            state["command"]["lost"][str(number)] = list(said)

    def subfolder(self, number: int, config: Mapping[str, Any]) -> str:
        """Return the subfolder of a job's configuration, giving it one at its first time.

        Parameters
        ----------
        number : int
            The job's number within its command.
        config : mapping
            The configuration, resolved.
        """
        key = _hash(config)
        with self._changing() as state:
            folders = state["folders"]
            if key not in folders:
                folders[key] = self._free_name(number, set(folders.values()))
            state["command"]["jobs"][str(number)] = folders[key]
            return str(folders[key])

    def _free_name(self, number: int, taken: set[str]) -> str:
        taken |= {path.name for path in self.path.iterdir()}
        if str(number) not in taken:
            return str(number)
        return str(1 + max(int(name) for name in taken if name.isdecimal()))

    @property
    def command(self) -> dict[str, Any]:
        """What the command that runs here has noted."""
        command: dict[str, Any] = self._read()["command"]
        return command

    def job(self, number: int) -> Path | None:
        """Return the folder of one of the command's jobs; None where it has not begun."""
        name = self.command["jobs"].get(str(number))
        return None if name is None else self.path / name

    @contextmanager
    def alone_with(self, job: str) -> Iterator[None]:
        """Hold one of the jobs: it may still run, left behind by a sweep that was killed and is resumed."""
        lock = FileLock(self.path / KNOWLEDGE / f"{job}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info(f"Waiting for another process that runs job {job} of {self.path}.")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        (self.path / KNOWLEDGE).mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / KNOWLEDGE / "state.lock"):
            state = self._read()
            yield state
            write_json(self.path / STATE, state)

    def _read(self) -> dict[str, Any]:
        state = _parsed(self.path / STATE)
        if state is None:
            state = {"folders": self._folders_again()}
        return {"folders": {}, **state, "command": {**_a_command(), **state.get("command", {})}}

    def _folders_again(self) -> dict[str, str]:
        """Work out from the jobs' own files which configuration has which subfolder: the state is lost."""
        known = self.path.glob("*/.hydra/config.yaml")
        pairs = ((_hash_of_file(path), path.parents[1].name) for path in sorted(known))
        found = {key: name for key, name in pairs if key is not None}
        if found:
            log.warning(
                f"{self.path / STATE} is missing or damaged: what has been done is read from the folders of "
                f"{len(found)} jobs."
            )
        return found


def _a_command() -> dict[str, Any]:
    return {"n_jobs": None, "swept": [], "started_at": time.time(), "jobs": {}, "planned": [], "lost": {}}


def _parsed(path: Path) -> dict[str, Any] | None:
    """Return the state that a file holds; None where it is not there, or not what was written."""
    with suppress(OSError, ValueError, RecursionError, AttributeError, TypeError):
        state = read_object(path)
        command = {**_a_command(), **state.get("command", {})}
        blocks = [state.get("folders", {}), command["jobs"], command["lost"]]
        if all(isinstance(block, dict) for block in blocks):
            return dict(state)
    return None


def _hash_of_file(path: Path) -> str | None:
    """Return the hash of the configuration that Hydra noted for a job; None where it cannot be read."""
    from llmlat.config import noted

    plain = noted(path)
    return None if plain is None else _hash(plain)


def _hash(config: Mapping[str, Any]) -> str:
    canonical = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
