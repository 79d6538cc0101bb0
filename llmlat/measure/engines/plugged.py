"""What an engine's class tells before a model is loaded: that its settings fit it, and what it is made of."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from llmlat.errors import ConfigError

GIVEN = ("model", "decoder")
"""What every engine is made with, whatever its settings."""


def check_settings(engine_class: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Refuse settings that an engine's class does not take, or without which it cannot be made.

    Parameters
    ----------
    engine_class : callable
        What `_target_` names.
    settings : mapping
        The engine's, as the config has them.

    Raises
    ------
    ConfigError
    """
    keys = [key for key in settings if key != "name" and not key.startswith("_")]
    taken: list[str] = []
    try:
        signature = inspect.signature(engine_class)
        taken += [f"engine.{name}" for name in signature.parameters if name not in GIVEN]
        signature.bind(**dict.fromkeys((*GIVEN, *keys)))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"engine._target_={settings['_target_']}: cannot be made ({error}); it takes "
            f"{', '.join(taken) or 'no settings'}."
        ) from error


def sources_sha256(engines: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the hash of each engine's source file, by its name, where it is not llmlat's own.

    llmlat's version stands for its own. Somebody else's engine may change from one run to the next, and what
    was measured with it must then not be taken for its own.
    """
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, settings in engines.items()
        if not str(settings["_target_"]).startswith("llmlat.")
        and (path := _source_file(str(settings["_target_"]))) is not None
    }


def _source_file(target: str) -> Path | None:
    """Return the file that defines an engine; one made in a session has none."""
    try:
        return Path(inspect.getfile(get_object(target)))
    except (TypeError, OSError):
        return None
