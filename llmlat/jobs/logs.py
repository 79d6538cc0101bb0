"""What the terminal shows of the log; the run folder's llmlat.log holds it all."""

import io
import logging
import sys
import warnings
from typing import Any, TextIO

WARNINGS = logging.getLogger("py.warnings")


def keep_to_lines() -> None:
    """Keep to a line each what Python warns of, and say nothing of a log that cannot be written.

    A regressor that does not converge warns at every fit; on a full disk the error itself has its line.
    """
    warnings.showwarning = _log_warning
    logging.raiseExceptions = False


class _Outliving(io.FileIO):
    """A stream that outlives its reader: what nobody reads any more is let go."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            return len(content)


def outlive_readers() -> None:
    """Have a run go on where what reads its output has ended, as `head` does: that is no failure of it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            raw = _Outliving(stream.fileno(), "w", closefd=False)
        except (AttributeError, OSError, ValueError):
            continue  # none, or not the process's own
        stream.flush()
        outliving = io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering
        )
        setattr(sys, name, outliving)


def _log_warning(message: Warning | str, category: type[Warning], *where: Any, **how: Any) -> None:
    said = " ".join(str(message).partition("\n\n")[0].split())
    WARNINGS.warning(f"{category.__name__}: {said}")


class BareFormatter(logging.Formatter):
    """Bare messages; a traceback only where the record asks for it on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, on its own."""
        if getattr(record, "shows_traceback", True):
            return super().format(record)
        return record.getMessage()


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes above a progress bar, where there is one, and not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        progress = sys.modules.get("tqdm")  # not imported for a line of its own: without it there is no bar
        if progress is None:
            super().emit(record)
            return
        with progress.tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class TerminalFilter(logging.Filter):
    """Hide what is for the file only, and Python warnings given before; in a sweep routine lines and ours.

    Parameters
    ----------
    mode : RunMode
        Hydra's; nothing is hidden in a single run.
    """

    given: set[str] = set()  # noqa: RUF012 - the process's: each job sets its logging up anew

    def __init__(self, mode: Any) -> None:
        super().__init__()
        self.is_sweep = getattr(mode, "name", str(mode)) == "MULTIRUN"

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the terminal shows a record."""
        if getattr(record, "is_for_the_file", False):
            return False
        if not self.is_sweep and record.name != WARNINGS.name:
            return True
        if getattr(record, "is_routine", False):
            return False
        # Where its run is kept differs by job, and is only then worth a line when it surprises.
        is_tracking = record.name.startswith("llmlat.tracking")
        if record.levelno != logging.WARNING:
            return not (is_tracking and record.levelno < logging.WARNING)
        message = f"{record.name}:{record.lineno}" if is_tracking else record.getMessage()
        is_new = message not in self.given
        self.given.add(message)
        return is_new
