"""Callbacks of `fit`: functions that look at a run after each evaluation, and may end it.

    fit(..., callbacks=[shn.callbacks.patience(10), log_to_somewhere])

A callback gets a `Progress`, and ends the run by returning True. With a `workdir` the run is saved
then, and may be resumed.
"""

import numpy as np

from shohypernet._internal import validation
from shohypernet.fitting._progress import Callback, Progress

__all__ = ["Callback", "Progress", "max_seconds", "patience"]


def max_seconds(seconds: float) -> Callback:
    """End a run that has computed for so long, compilation apart: by `history.seconds`.

    A resumed run counts from its first start.

    Args:
      seconds: time in s.

    Raises:
      ValueError: for a time that isn't above 0.
    """
    validation.positive("max_seconds", seconds=seconds)
    return lambda progress: bool(progress.newest.seconds >= seconds)


def patience(evaluations: int, *, least: float = 0.0) -> Callback:
    """End a run whose validation loss has stopped to fall, of every seed.

    `result.best` holds the weights and hyperparameters that validated best. The validation loss is
    that which λ̂ is tuned by: of hyperparameters as many as examples it may fall for ever.

    Args:
      evaluations: number of evaluations in a row without a new least validation loss.
      least: by how much a new one must be lower, in units of the loss.

    Raises:
      ValueError: for a number below 1, or a negative `least`.
    """
    validation.whole("patience", evaluations=evaluations)
    validation.not_negative("patience", least=least)

    def waited_enough(progress: Progress) -> bool:
        losses = np.stack([record.valid_loss for record in progress.records])
        losses = np.where(np.isfinite(losses), losses, np.inf)
        since = len(losses) - 1 - _last_fall(losses, least)
        return bool(np.all(since >= evaluations))

    return waited_enough


def _last_fall(losses: np.ndarray, least: float) -> np.ndarray:
    """Index of the last new least loss, by more than `least`, shape (S,)."""
    lowest, found = losses[0], np.zeros(losses.shape[1:], int)
    for i, at in enumerate(losses[1:], 1):
        falls = at < lowest - least
        lowest, found = np.where(falls, at, lowest), np.where(falls, i, found)
    return found
