"""Argument of a run's callbacks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet.fitting import _history as histories
from shohypernet.fitting._history import History
from shohypernet.types import Hyperparams, Space


class Progress(NamedTuple):
    """A run up to its newest evaluation.

    Attributes:
      space: the problem's.
      records: a `History` without its first axis for each evaluation so far, the newest last;
        without hyperparameters in natural units, which `hyperparams` gives. To be read only.
      state: the method's state, on the device, with a seed axis. The next steps take over its
        memory: copy what is to be kept.
      steps: number of steps that were asked for.
    """

    space: Space
    records: Sequence[History]
    state: Any
    steps: int

    @property
    def newest(self) -> History:
        """Metrics at the newest evaluation, scalars or arrays of shape (S,)."""
        return self.records[-1]

    @property
    def hyperparams(self) -> Hyperparams:
        """λ̂ in natural units at the newest evaluation, leaves (S, ...)."""
        return jax.tree.map(np.asarray, hp.decode(self.space, self.newest.unconstrained))

    @property
    def history(self) -> History:
        """Metrics of all evaluations so far, as in a result."""
        history = histories.stack(self.records)
        return history._replace(hyperparams=hp.decode(self.space, history.unconstrained))


Callback = Callable[[Progress], bool | None]
"""`callback(progress)`, True to end the run."""
