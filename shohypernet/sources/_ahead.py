"""Reading ahead: while a run computes on what was read, a thread reads what comes next."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from shohypernet.types import Batch

# One read at a time: splits often share a file, or a decoder that isn't made for threads.
_READING = threading.Lock()


class Ahead:
    """`ahead(wanted, following)`: `read(wanted)`, after which a thread begins to `read(following)`.

    Requests are arrays. For each of their shapes, and each device that asks, two answers are kept:
    the last one and the next. An answer depends on `wanted` alone; one that wasn't prepared is read
    then. All is read in one thread, which ends after a request that is followed by itself, after an
    error, and by `close`.

    Attributes:
      failure: error of the last request, if any.
    """

    def __init__(
        self, read: Callable[[np.ndarray], Batch], leave: Callable[[], None] = lambda: None
    ) -> None:
        """Without a thread, until there is something to read; `leave` is called when it closes."""
        self.failure: BaseException | None = None
        self._read, self._leave, self._lock = read, leave, threading.Lock()
        self._answers: dict[Any, dict[Any, Future[Batch]]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def __call__(self, wanted: Any, following: Any, device: int = 0) -> Batch:
        """The answer to `wanted`, with that to `following` on its way."""
        try:
            return self._answer(np.asarray(wanted), np.asarray(following), device)
        except BaseException as error:  # Ctrl-C too, where JAX calls back in the main thread
            self.close()
            self.failure = error
            raise

    def close(self) -> None:
        """Forget all answers, and end the thread once it has finished its read."""
        with self._lock:
            self._answers.clear()
            self.failure = None
            self._end()
            self._leave()

    def _answer(self, wanted: np.ndarray, following: np.ndarray, device: int) -> Batch:
        asker = wanted.shape, device
        with self._lock:
            now = self._begun(wanted)
            self._answers[asker] = {_name(wanted): now}
        answer = now.result()
        with self._lock:
            if _name(following) != _name(wanted):
                self._answers[asker] = {
                    _name(wanted): now,
                    _name(following): self._begun(following),
                }
            else:
                self._answers.pop(asker, None)
                if not self._answers:
                    self._end()
        return answer

    def _begun(self, request: np.ndarray) -> "Future[Batch]":
        name = _name(request)
        for answers in self._answers.values():  # several devices may ask for the same
            if name in answers:
                return answers[name]
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "shohypernet-reading")
        return self._thread.submit(self._read_alone, request)

    def _read_alone(self, request: np.ndarray) -> Batch:
        with _READING:
            return self._read(request)

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()


def _name(request: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return request.shape, request.tobytes()
