"""What the terminal shows of the log."""

import logging
import warnings
from collections.abc import Iterator

import pytest

from llmlat.jobs.logs import BareFormatter, TerminalFilter, keep_to_lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the lines that the terminal shows in a single run, warnings logged."""
    monkeypatch.setattr(TerminalFilter, "given", set())
    shown: list[str] = []

    class Terminal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(BareFormatter("%(message)s").format(record))

    handler = Terminal()
    handler.addFilter(TerminalFilter("RUN"))
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with warnings.catch_warnings(action="always"):  # which puts showwarning back, too
        keep_to_lines()
        yield shown
    logging.getLogger().removeHandler(handler)


def test_a_warning_is_one_line_and_told_once(terminal: list[str]) -> None:
    for _ in range(3):
        warnings.warn(
            "did not converge\n(status=1)\n\nSee also\nhttps://elsewhere", RuntimeWarning, stacklevel=1
        )
    warnings.warn("another", UserWarning, stacklevel=1)
    assert terminal == ["RuntimeWarning: did not converge (status=1)", "UserWarning: another"]


def test_what_is_ours_is_told_each_time(terminal: list[str]) -> None:
    for _ in range(2):
        logging.getLogger("llmlat").warning("the weights are random")
    assert len(terminal) == 2
