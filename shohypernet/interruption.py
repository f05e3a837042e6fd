"""Ctrl-C and SIGTERM, put off until the run can be saved."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and saved itself first; `signal_number` says by which signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        """Keeps the signal beside the message."""
        super().__init__(message)
        self.signal_number = signal_number


class Interruption:
    """While entered, notes the first SIGINT or SIGTERM in `signal_number`; a second one acts.

    Only a program's main thread is told of signals; in any other this does nothing.
    """

    def __init__(self, *, listening: bool = True) -> None:
        """Nothing is noted yet; `listening=False` leaves the signals as they are."""
        self._listening = listening and threading.current_thread() is threading.main_thread()
        self.signal_number: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        """Starts to listen."""
        if self._listening:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        """Puts the former handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self.__exit__()
