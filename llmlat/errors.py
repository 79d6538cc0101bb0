"""Errors that a person can act on: one line saying what, which config key, and what to do."""

import difflib
from collections.abc import Iterable


class LlmlatError(Exception):
    """A failure with a known cause, shown as one line and without a traceback."""


class ConfigError(LlmlatError):
    """A setting that cannot work; the message names its config key."""


class MissingExtraError(ConfigError):
    """A setting that needs a package which is not installed; the message says which extra brings it."""


class ModelError(LlmlatError):
    """A model that cannot be found, loaded or quantised here."""


class MeasurementError(LlmlatError):
    """A measurement that broke off; the rows of completed requests are on disk."""


class DatasetError(LlmlatError):
    """A dataset that cannot be read, trusted or written."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question after what was likely meant, or a full stop where nothing is like it."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "."


def one_line(error: BaseException) -> str:
    """Return what an exception says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
