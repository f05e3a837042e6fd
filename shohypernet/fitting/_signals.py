"""Ctrl-C and SIGTERM, deferred until the run is saved."""

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

STANDARD_ERROR = 2
NOTICE = b"\nStopping as soon as the run can be saved; once more stops at once, without saving.\n"


class Interrupted(KeyboardInterrupt):
    """A run stopped on a signal, `signal_number`, after it was saved.

    That of a search has the `result` so far; in a notebook, `sys.last_value.result`.
    """

    def __init__(self, message: str, signal_number: int, result: Any = None) -> None:
        """Keep the signal and the result beside the message."""
        super().__init__(message)
        self.signal_number, self.result = signal_number, result


class Interruption:
    """Context that records the first SIGINT or SIGTERM in `signal_number`; a second one acts.

    Only a program's main thread receives signals; in any other this does nothing. A signal that the
    program ignores, as a shell's background jobs do SIGINT, stays ignored.

    Args:
      listening: false leaves the signals as they are.
    """

    def __init__(self, *, listening: bool = True) -> None:
        """Record nothing yet."""
        self._listening = listening and threading.current_thread() is threading.main_thread()
        self._handlers: dict[int, Any] = {}
        self.signal_number: int | None = None

    def __enter__(self) -> "Interruption":
        """Install the handlers."""
        for number in (signal.SIGINT, signal.SIGTERM) if self._listening else ():
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restore the former handlers."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self.__exit__()
        # Not by print, which may not be entered again if the signal came in the midst of one.
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, NOTICE)
