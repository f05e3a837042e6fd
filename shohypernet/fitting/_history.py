"""What a run remembers: a record at each evaluation, and their history, in NumPy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet.batches import SplitLosses
from shohypernet.hyperoptimizer import Info


class History(NamedTuple):
    """What happened, at E evaluations (the first before any step) of S seeds.

    Attributes:
      step: steps done, shape (E,).
      seconds: time spent in compiled steps and evaluations, shape (E,).
      gradient_evaluations: their running count, shape (E, S).
      hypergradient_norm: its mean since the last evaluation (0 at the start), shape (E, S).
      train_loss: the problem's `valid_loss` on all training examples, at w(λ̂), shape (E, S).
      valid_loss: likewise on the validation examples, shape (E, S).
      test_loss: likewise on the test examples, shape (E, S). Nothing is chosen by it.
      hyperparams: λ̂, unconstrained, a tree with leaves (E, S, ...).
    """

    step: np.ndarray
    seconds: np.ndarray
    gradient_evaluations: np.ndarray
    hypergradient_norm: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray
    test_loss: np.ndarray
    hyperparams: Any


def first(losses: SplitLosses, hyperparams: Any) -> History:
    """The record before any step. A record is a History without its leading axis."""
    zeros = np.zeros(losses.train.shape)
    counts = zeros.astype(np.int64)
    return History(np.array(0), np.array(0.0), counts, zeros, *losses, _copied(hyperparams))


def after(
    last: History, steps: int, seconds: float, infos: Info, losses: SplitLosses, hyperparams: Any
) -> History:
    """The record some steps after another one; each of the infos has shape (S, steps)."""
    return History(
        last.step + np.array(steps),
        last.seconds + np.array(seconds),
        last.gradient_evaluations + infos.gradient_evaluations.sum(1),
        np.asarray(infos.hypergradient_norm.mean(1, dtype=np.float64)),
        *losses,
        _copied(hyperparams),
    )


def blank(losses: SplitLosses, hyperparams: Any, evaluations: int) -> History:
    """A history of zeros, from the shapes and dtypes of what each record holds."""
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), (losses, hyperparams))
    return stack([first(*like)] * evaluations)


def stack(records: Sequence[History]) -> History:
    """The history of all records."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *records)


def unstack(history: History) -> list[History]:
    """The records of a history."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], history) for i in range(len(history.step))]


def summary(record: History) -> dict[str, Any]:
    """All of a record but the hyperparameters, as JSON can hold it."""
    fields = record._asdict()
    del fields["hyperparams"]
    return {name: leaf.tolist() for name, leaf in fields.items()}


def finite(record: History) -> np.ndarray:
    """Whether a record's losses and λ̂ are finite, shape (S,)."""
    seen = record.train_loss, record.valid_loss, record.test_loss, record.hyperparams
    each = [np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in jax.tree.leaves(seen)]
    return np.logical_and.reduce(each)


def _copied(hyperparams: Any) -> Any:
    # The buffers of a state are donated to the steps that follow.
    return jax.tree.map(np.array, hyperparams)
