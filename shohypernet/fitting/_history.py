"""Record of a run at each evaluation, and the history of all records, in NumPy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import saving
from shohypernet.batches import SplitLosses
from shohypernet.hyperoptimizer import Info
from shohypernet.types import Hyperparams


@saving.known
class History(NamedTuple):
    """Metrics at E evaluations, the first of them before any step.

    Arrays of several seeds have the seed axis S after that of evaluations; those of a run of a
    single, whole-numbered seed lack it.

    Attributes:
      step: steps done, shape (E,).
      seconds: time spent in compiled steps and evaluations, shape (E,), in s.
      gradient_evaluations: their running total, shape (E, S).
      hypergradient_norm: its mean since the last evaluation (0 at the start), shape (E, S).
      valid_loss_on_train: the problem's `valid_loss` on all training examples, at w(λ̂), shape
        (E, S).
      valid_loss: likewise on the validation examples, shape (E, S).
      test_loss: likewise on the test examples, shape (E, S). Nothing is chosen by it.
      hyperparams: λ̂ in natural units, a tree with leaves (E, S, ...).
      unconstrained: λ̂ as methods move it, likewise.
    """

    step: np.ndarray
    seconds: np.ndarray
    gradient_evaluations: np.ndarray
    hypergradient_norm: np.ndarray
    valid_loss_on_train: np.ndarray
    valid_loss: np.ndarray
    test_loss: np.ndarray
    hyperparams: Hyperparams
    unconstrained: Hyperparams

    def schedule(self, share: jax.Array) -> Hyperparams:
        """λ̂ as it was when a share of the run's steps was done, for `train` to go through again.

        A schedule may be worth more than the value that it ends at (arXiv:1903.03088). Of several
        seeds take one: `result.seed(0).history.schedule`.

        Args:
          share: scalar in [0, 1].

        Returns:
          A tree like λ̂ in natural units, interpolated linearly between evaluations.
        """
        shares = jnp.asarray(self.step / self.step[-1], jnp.result_type(float))

        after = jnp.clip(jnp.searchsorted(shares, share), 1, len(shares) - 1)
        done = (share - shares[after - 1]) / (shares[after] - shares[after - 1])
        values = jax.tree.map(jnp.asarray, self.hyperparams)
        return jax.tree.map(
            lambda leaf: leaf[after - 1] + done * (leaf[after] - leaf[after - 1]), values
        )


# A record is a History without its leading axis; until the run is over, without natural units too.


def first(losses: SplitLosses, unconstrained: Hyperparams) -> History:
    """Record before any step."""
    zeros = np.zeros(losses.train.shape)
    counts = zeros.astype(np.int64)
    return History(np.array(0), np.array(0.0), counts, zeros, *losses, None, _copied(unconstrained))


def after(
    last: History,
    steps: int,
    seconds: float,
    infos: Info,
    losses: SplitLosses,
    unconstrained: Hyperparams,
    *,
    since: int = 0,
) -> History:
    """Record some steps after another one.

    Args:
      last: record before these steps.
      steps: their number.
      seconds: time that they took.
      infos: what they gave, each of shape (S, steps).
      losses: after them.
      unconstrained: λ̂ after them.
      since: steps that `last` counts from an evaluation which stays in the history, where `last`
        itself doesn't: the mean of the norms starts there.
    """
    norms = infos.hypergradient_norm.sum(1, dtype=np.float64)
    if since:  # a lost seed's may be infinite, and 0 times that is no number
        norms = norms + last.hypergradient_norm * since
    return History(
        last.step + np.array(steps),
        last.seconds + np.array(seconds),
        last.gradient_evaluations + infos.gradient_evaluations.sum(1),
        np.asarray(norms / (steps + since)),
        *losses,
        None,
        _copied(unconstrained),
    )


def blank(losses: SplitLosses, unconstrained: Hyperparams, evaluations: int) -> History:
    """A history of zeros, from the shapes and dtypes of a record's losses and λ̂."""
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), (losses, unconstrained))
    return stack([first(*like)] * evaluations)


def stack(records: Sequence[History]) -> History:
    """The history of all records."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *records)


def unstack(history: History) -> list[History]:
    """The records of a history."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], history) for i in range(len(history.step))]


def of_seed(history: History, index: int) -> History:
    """The history of one of several seeds, without their axis."""
    shared = {"step": history.step, "seconds": history.seconds}
    return jax.tree.map(
        lambda leaf: leaf[:, index], history._replace(step=None, seconds=None)
    )._replace(**shared)


def summary(record: History) -> dict[str, Any]:
    """All of a record but the hyperparameters, as JSON can hold it."""
    fields = record._asdict()
    del fields["hyperparams"], fields["unconstrained"]
    return {name: leaf.tolist() for name, leaf in fields.items()}


def _copied(unconstrained: Hyperparams) -> Hyperparams:
    # The buffers of a state are donated to the steps that follow.
    return jax.tree.map(np.array, unconstrained)
