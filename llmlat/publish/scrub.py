"""What names the measuring machine or its user is taken out of what is published.

Versions, hardware and settings stay: they are what a latency means. Folders are cut to the last name of their
path, and what only names someone goes. What the key is made of is never touched, since the key is its hash.
"""

import getpass
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any

ELLIPSIS = "…"

# Accounts, places and other people's work, which say nothing about a latency.
PRIVATE = {
    "sessions.config.tracking",
    "sessions.config.datasets_dir",
    "sessions.config.dataset",
    "sessions.foreign_processes.names",
}
PRIVATE_NAMES = {"host", "hostname", "node", "user", "username", "uuid", "serial", "pid", "cwd"}

_REST = r"""[^\s"'`<>|;,:()\[\]{}]+"""
_PATH = re.compile(
    rf"file:/+{_REST}"
    rf"|(?<!\w)[A-Za-z]:[/\\](?!/){_REST}"  # C:\models, but not https://
    rf"|\\\\(?=\w){_REST}"
    rf"|(?<![\w./\\-])~[\w-]*[/\\]{_REST}"
    rf"|(?<![\w./\\~{ELLIPSIS}])/(?!/){_REST}"
)
_SEPARATORS = re.compile(r"[/\\]+")
HOME_DEPTH = 2  # /home/someone and C:\Users\someone name someone: no part of so short a path stays
MIN_NAME_LENGTH = 3
NOBODY = {"root", "user", "ubuntu", "localhost"}


@dataclass
class Scrubber:
    """Takes out what names the machine or its user, and remembers where.

    Attributes
    ----------
    places : tuple of str
        Paths to look for in every text; unlike those that are recognised, they may hold spaces.
    names : frozenset of str
        Names of the machine and its user.
    drops_private : bool
        Whether keys that only name someone go as a whole.
    left_out : set of str
        The dotted keys under which something was taken out.
    """

    places: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    drops_private: bool = True
    left_out: set[str] = field(default_factory=set)

    def scrub(self, value: Any, key: str = "") -> Any:
        """Return a value, as JSON holds it, without what is private."""
        if isinstance(value, dict):
            return self._scrub_mapping(value, f"{key}." if key else "")
        if isinstance(value, list):
            return [self.scrub(item, key) for item in value]
        if not isinstance(value, str):
            return value
        clean = _without_names(without_places(value, self.places), self.names)
        if clean != value:
            self.left_out.add(key)
        return clean

    def _scrub_mapping(self, mapping: dict[str, Any], prefix: str) -> dict[str, Any]:
        kept = {}
        for name, value in mapping.items():
            if self.drops_private and (f"{prefix}{name}" in PRIVATE or name in PRIVATE_NAMES):
                self.left_out.add(f"{prefix}{name}")
            else:
                kept[name] = self.scrub(value, f"{prefix}{name}")
        return kept


def scrubber_for(provenance: dict[str, Any]) -> Scrubber:
    """Return the scrubber of a dataset: it knows the paths in its configurations, and who is here."""
    configs = [session.get("config") for session in provenance["sessions"]]
    places = sorted(set(filter(is_place, _strings(configs))), key=lambda place: (-len(place), place))
    return Scrubber(tuple(places), machine_names())


def places_in(content: Any) -> list[str]:
    """Return the dotted keys below which a folder of the machine is named."""
    scrubber = Scrubber(tuple(filter(is_place, _strings(content))), drops_private=False)
    scrubber.scrub(content)
    return sorted(scrubber.left_out)


def machine_names() -> frozenset[str]:
    """Return the names of this machine and its user, where they name anyone."""
    names = {platform.node(), platform.node().partition(".")[0]}
    with suppress(OSError, KeyError, ImportError):
        names.add(getpass.getuser())
    return frozenset(name for name in names if len(name) >= MIN_NAME_LENGTH and name not in NOBODY)


def is_place(text: str) -> bool:
    """Whether a text as a whole is the path of a folder or file of the machine."""
    return text[:1] in {"/", "~"} or PureWindowsPath(text).is_absolute()


def shortened(path: str) -> str:
    """Return the last name of a path, behind an ellipsis for the folders above.

    Examples
    --------
    >>> shortened("/home/someone/prompts/chat.jsonl"), shortened("/home/someone")
    ('…/chat.jsonl', '…')
    """
    parts = [part for part in _SEPARATORS.split(path) if part and not part.endswith(":")]
    depth = 1 if path.startswith("~") else HOME_DEPTH
    return f"{ELLIPSIS}/{parts[-1]}" if len(parts) > depth else ELLIPSIS


def without_places(text: str, places: tuple[str, ...] = ()) -> str:
    """Return a text with every path in it shortened, the given ones first."""
    for place in places:
        text = text.replace(place, shortened(place))
    return _PATH.sub(lambda match: shortened(match[0]), text)


def _without_names(text: str, names: frozenset[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", ELLIPSIS, text)
    return text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _strings(below)
    elif isinstance(value, str):
        yield value
