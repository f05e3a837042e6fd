"""Ctrl-C and SIGTERM, put off until the run can be saved."""

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

STANDARD_ERROR = 2
NOTICE = b"\nStopping as soon as the run can be saved; once more stops at once, without saving.\n"


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and saved itself first; `signal_number` says by which signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        """Keeps the signal beside the message."""
        super().__init__(message)
        self.signal_number = signal_number


class Interruption:
    """While entered, notes the first SIGINT or SIGTERM in `signal_number`; a second one acts.

    Only a program's main thread is told of signals; in any other this does nothing. A signal that
    the program ignores, as a shell's background jobs do SIGINT, stays ignored.
    """

    def __init__(self, *, listening: bool = True) -> None:
        """Nothing is noted yet; `listening=False` leaves the signals as they are."""
        self._listening = listening and threading.current_thread() is threading.main_thread()
        self._handlers: dict[int, Any] = {}
        self.signal_number: int | None = None

    def __enter__(self) -> "Interruption":
        """Starts to listen."""
        for number in (signal.SIGINT, signal.SIGTERM) if self._listening else ():
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        """Puts the former handlers back."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self.__exit__()
        # Not by print, which may not be entered again if the signal came in the midst of one.
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, NOTICE)
