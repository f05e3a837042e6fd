"""Results of a search: the best trial of each seed, and all that was measured on the way."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import _conditions as conditions
from shohypernet import hyperparameters as hp
from shohypernet import saving
from shohypernet.fitting._result import indented
from shohypernet.search._unit_cube import unit_cube
from shohypernet.types import Hyperparams, ModelState, Params, Space


@saving.known
class Measured(NamedTuple):
    """Measurements of one seed's search: a row each time that a trial was stopped, N rows.

    Attributes:
      trial: number of the trial, shape (N,).
      steps: updates of w that it had had by then, shape (N,).
      gradient_evaluations: what the search had spent by then, had the trials of a proposal been
        trained one after another, shape (N,); the unit of `Info.gradient_evaluations`.
      seconds: time since the search began, compilation of the inner runs apart, shape (N,).
      valid_loss: the problem's `valid_loss` on all validation examples, shape (N,).
      test_loss: likewise on the test examples, shape (N,). Nothing is chosen by it. NaN for data
        without a test split.
      hyperparams: λ in natural units, a category as its index, a tree with leaves (N, ...); the
        middle of its prior where one was inactive, as `hyperparameters.active` tells.
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


@saving.known
class SearchResult(NamedTuple):
    """Result of `run`: the trial that validated best, and the way there.

    Run for one seed, an int, no field has a seed axis; for a sequence of seeds all arrays lead with
    it, and `measured` and `states` are lists. It can be pickled.

    Attributes:
      hyperparams: λ of the best trial in natural units, a category as its index. What is inactive
        has the middle of its prior; `describe` and `to_pandas` say that it is inactive.
      unconstrained: λ of the best trial, unconstrained.
      params: its weights.
      model_state: its model's state, `()` if the model has none.
      valid_loss: its validation loss.
      test_loss: its test loss.
      measured: `Measured`, one for each seed.
      states: the method's last state, one for each seed; None in a result loaded from a file.
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
        """The result of one seed, without the seed axis.

        Args:
          index: position among `seeds`, not the seed itself; that of a single number is 0.

        Raises:
          IndexError: if there are fewer seeds.
        """
        several = self.seeds if isinstance(self.seeds, tuple) else (self.seeds,)
        if not -len(several) <= index < len(several):
            raise IndexError(f"seed({index}) is none of {len(several)}, by position: {several}.")
        if several is not self.seeds:
            return self
        names = "hyperparams", "unconstrained", "params", "model_state", "valid_loss", "test_loss"
        rows = {name: _row(getattr(self, name), index) for name in names}
        return self._replace(
            **rows,
            measured=self.measured[index],
            states=self.states and self.states[index],
            seeds=several[index],
        )

    def describe(self) -> str:
        """A few lines for people: λ in natural units, losses and cost, seed by seed."""
        if isinstance(self.seeds, tuple):
            return "\n".join(self.seed(i).describe() for i in range(len(self.seeds)))
        spent = int(self.measured.gradient_evaluations[-1])
        # A category's index is told from a choice that is a number by being a JAX array.
        values = jax.tree.map(jnp.asarray, self.hyperparams)
        return (
            f"seed {self.seeds}, best of {len(np.unique(self.measured.trial)):,} trials and "
            f"{spent:,} gradient evaluations:\n"
            f"  loss {self.valid_loss:.4g} on validation{_on_test(self.test_loss)} examples\n"
            f"{indented(hp.describe(self.space, values))}"
        )

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` of `measured`, with a row for each time that a trial was stopped.

        Hyperparameters have a column for each number, by its path, in natural units, and a category
        as its choice. What was inactive is missing (NaN). Several seeds have a column `seed`.
        """
        import pandas as pd

        if isinstance(self.seeds, tuple):
            frames = [self.seed(i).to_pandas() for i in range(len(self.seeds))]
            frames = [
                frame.assign(seed=seed) for frame, seed in zip(frames, self.seeds, strict=True)
            ]
            return pd.concat(frames, ignore_index=True)
        measured = self.measured
        form = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:]), measured.unconstrained)
        cube = unit_cube(self.space, form)
        columns = {name: getattr(measured, name) for name in measured._fields[:6]}
        values = cube.values(measured.unconstrained)
        for name, spec, column in zip(cube.names, cube.specs, values.T, strict=True):
            choices = dict(enumerate(spec.as_text().choices))
            columns[name] = pd.Series(column).map(choices) if choices else column
        return pd.DataFrame(columns)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write all but the method's states to a file; see `shohypernet.save`."""
        space = conditions.as_text(self.space)
        saving.save(path, self._replace(states=None, space=space), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SearchResult":
        """Read a result that was saved.

        Raises:
          ValueError: if the file holds something else.
        """
        return saving.load(path, kind=cls)

    def __repr__(self) -> str:
        """Seeds and losses, no arrays of hyperparameters or weights."""
        valid, test = (
            np.array2string(np.asarray(loss), precision=4, threshold=8)
            for loss in (self.valid_loss, self.test_loss)
        )
        return f"SearchResult(seeds={self.seeds}, valid_loss={valid}, test_loss={test})"


def _on_test(loss: Any) -> str:
    return "" if np.isnan(loss) else f", {loss:.4g} on test"


def best_so_far(measured: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Least validation loss up to each row, and test loss of the same weights, shapes (N,)."""
    losses = np.where(np.isfinite(measured.valid_loss), measured.valid_loss, np.inf)
    leads = losses <= np.minimum.accumulate(losses)
    leader = np.maximum.accumulate(np.where(leads, np.arange(len(losses)), 0))
    return losses[leader], measured.test_loss[leader]


def _row(tree: Any, index: int) -> Any:
    def row(leaf: Any) -> Any:
        chosen = np.asarray(leaf)[index]
        return jnp.asarray(chosen) if isinstance(leaf, jax.Array) else chosen

    return jax.tree.map(row, tree)
