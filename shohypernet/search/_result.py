"""Results of a search: the best trial of each seed, and all that was measured on the way."""

import os
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet.types import Hyperparams, ModelState, Params, Space


class Measured(NamedTuple):
    """Measurements of one seed's search: a row each time that a trial was stopped, N rows.

    Attributes:
      trial: number of the trial, shape (N,).
      steps: updates of w that it had had by then, shape (N,).
      gradient_evaluations: what the search had spent by then, had the trials of a proposal been
        trained one after another, shape (N,); the unit of `Info.gradient_evaluations`.
      seconds: time since the search began, compilation of the inner runs apart, shape (N,).
      valid_loss: the problem's `valid_loss` on all validation examples, shape (N,).
      test_loss: likewise on the test examples, shape (N,). Nothing is chosen by it.
      hyperparams: λ in natural units, a category as its index, a tree with leaves (N, ...).
      unconstrained: λ unconstrained, likewise.
    """

    trial: np.ndarray
    steps: np.ndarray
    gradient_evaluations: np.ndarray
    seconds: np.ndarray
    valid_loss: np.ndarray
    test_loss: np.ndarray
    hyperparams: Hyperparams
    unconstrained: Hyperparams


class SearchResult(NamedTuple):
    """Result of `run`: the trial that validated best, and the way there.

    Run for one seed, an int, no field has a seed axis; for a sequence of seeds all arrays lead with
    it, and `measured` and `states` are lists. It can be pickled.

    Attributes:
      hyperparams: λ of the best trial in natural units, a category as its index.
      unconstrained: λ of the best trial, unconstrained.
      params: its weights.
      model_state: its model's state, `()` if the model has none.
      valid_loss: its validation loss.
      test_loss: its test loss.
      measured: `Measured`, one for each seed.
      states: the method's last state, one for each seed.
      compile_seconds: time spent in compiling, which `Measured.seconds` leaves out.
      seeds: the seed or seeds.
      space: the problem's space.
    """

    hyperparams: Hyperparams
    unconstrained: Hyperparams
    params: Params
    model_state: ModelState
    valid_loss: Any
    test_loss: Any
    measured: Any
    states: Any
    compile_seconds: float
    seeds: int | tuple[int, ...]
    space: Space

    def seed(self, index: int) -> "SearchResult":
        """The result of one seed, by its position, without seed axis.

        Raises:
          IndexError: for a position that there is no seed at.
        """
        if isinstance(self.seeds, int):
            if index not in (0, -1):
                raise IndexError(f"this is the result of one seed, {self.seeds}; got {index}.")
            return self
        seed = self.seeds[index]
        arrays = self.hyperparams, self.unconstrained, self.params, self.model_state
        chosen = jax.tree.map(lambda leaf: leaf[index], arrays)
        return SearchResult(
            *chosen,
            valid_loss=self.valid_loss[index],
            test_loss=self.test_loss[index],
            measured=self.measured[index],
            states=self.states[index],
            compile_seconds=self.compile_seconds,
            seeds=seed,
            space=self.space,
        )

    def describe(self) -> str:
        """The best hyperparameters in natural units, a category by its name, a line per seed."""
        if isinstance(self.seeds, int):
            return hp.describe(self.space, self.hyperparams)
        each = [(seed, self.seed(i)) for i, seed in enumerate(self.seeds)]
        return "\n".join(f"seed {seed}: {result.describe()}" for seed, result in each)

    def save(self, path: str | os.PathLike) -> None:
        """Write all but the method's states and the space to a file, for `shohypernet.load`."""
        _save(path, {
            name: value for name, value in self._asdict().items() if name not in ("states", "space")
        })  # fmt: skip

    def __repr__(self) -> str:
        """A few lines: what was found, and how it validates."""
        losses = ", ".join(
            f"{name}={np.array2string(np.asarray(value), precision=4, threshold=8)}"
            for name, value in (("valid_loss", self.valid_loss), ("test_loss", self.test_loss))
        )
        return f"SearchResult(seeds={self.seeds}, {losses}, hyperparams: {self.describe()})"


def best_so_far(measured: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Least validation loss up to each row, and test loss of the same weights, shapes (N,)."""
    losses = np.where(np.isfinite(measured.valid_loss), measured.valid_loss, np.inf)
    leads = losses <= np.minimum.accumulate(losses)
    leader = np.maximum.accumulate(np.where(leads, np.arange(len(losses)), 0))
    return losses[leader], measured.test_loss[leader]


def _save(path: str | os.PathLike, tree: Any) -> None:
    from shohypernet import saving

    saving.save(path, tree)
