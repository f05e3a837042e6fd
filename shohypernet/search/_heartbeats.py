"""Heartbeats of the trials in a shared study, and the trials that dead processes leave.

A process counts up an attribute of each trial that it trains. Whoever sees that attribute stand
still for two intervals, by a clock of its own, takes the process for dead: it fails the trial and
enqueues the same λ again. Optuna's own heartbeats need a database; these work in any storage, and
between machines whose clocks differ.
"""

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

WORKER, BEAT, REPEATS = "worker", "heartbeat", "repeats"  # attributes of a trial


class Heartbeats:
    """Heartbeats of this process in a study, and its view of those of others.

    Args:
      study: a study in a storage.
      worker: name of this process.
      interval: seconds between heartbeats.
    """

    def __init__(self, study: optuna.Study, worker: str, interval: float) -> None:
        """Record nothing yet."""
        self._study, self._worker, self._interval = study, worker, interval
        self._seen: dict[int, tuple[Any, float]] = {}  # the last beat, and since when
        self._stop: threading.Event | None = None

    def start(self, trials: Iterable[optuna.Trial]) -> None:
        """Record heartbeats of some trials, in a thread, until `stop`."""
        self.stop()
        stop, running = threading.Event(), list(trials)
        self._stop = stop

        def beat() -> None:
            count = 0
            while not stop.wait(self._interval):
                count += 1
                for trial in running:
                    # It is finished if this process was taken for dead.
                    with contextlib.suppress(UpdateFinishedTrialError):
                        trial.set_user_attr(BEAT, count)

        # A daemon, so that it never outlives the process whose life it shows.
        threading.Thread(target=beat, daemon=True).start()

    def stop(self) -> None:
        """Record no more heartbeats."""
        if self._stop:
            self._stop.set()
            self._stop = None

    def repeat_stale(self) -> None:
        """Fail the trials of dead processes, and enqueue each again."""
        now = time.monotonic()
        running = self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        for trial in running:
            beat = trial.user_attrs.get(WORKER), trial.user_attrs.get(BEAT)
            last, since = self._seen.setdefault(trial.number, (beat, now))
            if beat != last:
                self._seen[trial.number] = beat, now
            elif beat[0] != self._worker and now - since > 2 * self._interval:
                # Another process may have been quicker.
                with contextlib.suppress(ValueError, UpdateFinishedTrialError):
                    self._study.tell(trial.number, state=TrialState.FAIL)
                    self._study.enqueue_trial(trial.params, {REPEATS: trial.number})
