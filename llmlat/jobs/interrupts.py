"""Ctrl-C that cannot get lost.

Python raises it wherever it happens to be. In a callback from C, in a finaliser, or inside of a library that
catches everything, it is printed or dropped, and the run would go on as if nothing had been pressed.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_AFTER_S = 1.0


@contextmanager
def no_ctrl_c_is_lost() -> Iterator[None]:
    """Raise KeyboardInterrupt again, each second, until it comes out of the block or is being dealt with."""
    can_be = sys.platform != "win32" and threading.current_thread() is threading.main_thread()
    if not can_be or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = _Pressed()
    signal.signal(signal.SIGINT, pressed)
    try:
        yield
        if pressed.at_all:
            raise KeyboardInterrupt  # it was lost on the very last steps
    finally:
        pressed.is_over = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Pressed:
    """The handler of SIGINT, which also comes from a timer of its own."""

    def __init__(self) -> None:
        self.at_all = self.is_over = False
        self._is_a_reminder = False
        self._thread = threading.get_ident()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        is_a_reminder, self._is_a_reminder = self._is_a_reminder, False
        self.at_all = True
        self._remind_later()
        if is_a_reminder and _is_on_its_way():
            return
        raise KeyboardInterrupt

    def _remind_later(self) -> None:
        timer = threading.Timer(AGAIN_AFTER_S, self._remind)
        timer.daemon = True
        timer.start()

    def _remind(self) -> None:
        if not self.is_over:
            self._is_a_reminder = True
            # To that thread, and not just to the process: it may wait in the system.
            signal.pthread_kill(self._thread, signal.SIGINT)


def _is_on_its_way() -> bool:
    """Tell whether what runs now is the clearing up after a KeyboardInterrupt."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
