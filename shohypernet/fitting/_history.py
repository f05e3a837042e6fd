"""Record of a run at each evaluation, and the history of all records, in NumPy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import saving
from shohypernet._internal.trees import by_path
from shohypernet.batches import SplitLosses
from shohypernet.hyperoptimizer import Info
from shohypernet.inner_loop import Evaluation
from shohypernet.types import Hyperparams

MOST_BYTES = 2**28  # of λ̂ in a history; of more, every second evaluation's is kept, or every fourth


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
      test_loss: likewise on the test examples, shape (E, S). Nothing is chosen by it. None for data
        without a test split.
      hyperparams: λ̂ in natural units, a tree with leaves (H, S, ...).
      unconstrained: λ̂ as methods move it, likewise.
      metrics: for each of the problem's metrics, by its name, a `SplitLosses` of shapes (E, S).
      hyperparams_step: steps done at each λ̂, shape (H,). It is `step`, unless λ̂ has so many numbers
        that E of them would take more than 256 MiB.
    """

    step: np.ndarray
    seconds: np.ndarray
    gradient_evaluations: np.ndarray
    hypergradient_norm: np.ndarray
    valid_loss_on_train: np.ndarray
    valid_loss: np.ndarray
    test_loss: Any
    hyperparams: Hyperparams
    unconstrained: Hyperparams
    metrics: dict[str, SplitLosses]
    hyperparams_step: np.ndarray

    def schedule(self, share: jax.Array) -> Hyperparams:
        """λ̂ as it was when a share of the run's steps was done, for `train` to go through again.

        A schedule may be worth more than the value that it ends at (arXiv:1903.03088). Of several
        seeds take one: `result.seed(0).history.schedule`.

        Args:
          share: scalar in [0, 1].

        Returns:
          A tree like λ̂ in natural units, interpolated linearly between evaluations.
        """
        shares = jnp.asarray(
            self.hyperparams_step / self.hyperparams_step[-1], jnp.result_type(float)
        )

        after = jnp.clip(jnp.searchsorted(shares, share), 1, len(shares) - 1)
        done = (share - shares[after - 1]) / (shares[after] - shares[after - 1])
        values = jax.tree.map(jnp.asarray, self.hyperparams)
        return jax.tree.map(
            lambda leaf: leaf[after - 1] + done * (leaf[after] - leaf[after - 1]), values
        )

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, with a row for each evaluation and each of several seeds.

        Losses and metrics have columns by their names, such as `accuracy_valid`, hyperparameters by
        their paths, of an array its median, NaN where the history doesn't keep them.
        """
        import pandas as pd

        columns = {
            name: getattr(self, name)
            for name in self._fields[:7]
            if name not in ("step", "seconds") and getattr(self, name) is not None
        }
        for name, splits in self.metrics.items():
            found = splits._asdict().items()
            columns |= {f"{name}_{split}": values for split, values in found if values is not None}
        several = self.valid_loss.ndim > 1
        rows = np.searchsorted(self.step, self.hyperparams_step)
        for name, leaf in by_path(np.asarray, self.hyperparams).items():
            medians = np.median(leaf.reshape(*leaf.shape[: 1 + several], -1), -1)
            column = np.full(self.valid_loss.shape, np.nan)
            column[rows] = medians
            columns[name or "hyperparams"] = column
        count = self.valid_loss.shape[1] if several else 1
        shared = {name: np.repeat(getattr(self, name), count) for name in ("step", "seconds")}
        seeds = {"seed_index": np.tile(np.arange(count), len(self.step))} if several else {}
        return pd.DataFrame(shared | seeds | {name: np.ravel(at) for name, at in columns.items()})

    def __repr__(self) -> str:
        """Its size and the last losses, no arrays."""
        valid, test = map(last_as_text, (self.valid_loss, self.test_loss))
        return (
            f"History({len(self.step)} evaluations, to step {int(self.step[-1])}, "
            f"valid_loss={valid}, test_loss={test})"
        )


def last_as_text(losses: Any) -> str:
    """The last of the losses, shape (E,) or (E, S); None as such."""
    if losses is None:
        return "None"
    return np.array2string(np.asarray(losses)[-1], precision=4, threshold=8)


# A record is a History without its leading axis; until the run is over, without natural units too.
# Its λ̂ is None where it is one of too many.


def first(evaluation: Evaluation, unconstrained: Hyperparams) -> History:
    """Record before any step."""
    losses, metrics = evaluation
    zeros = np.zeros(losses.train.shape)
    counts = zeros.astype(np.int64)
    hyperparams = None, _copied(unconstrained)
    step = np.array(0)
    return History(step, np.array(0.0), counts, zeros, *losses, *hyperparams, metrics, step)


def after(
    last: History,
    steps: int,
    seconds: float,
    infos: Info,
    evaluation: Evaluation,
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
      evaluation: after them.
      unconstrained: λ̂ after them.
      since: steps that `last` counts from an evaluation which stays in the history, where `last`
        itself doesn't: the mean of the norms starts there.
    """
    norms = infos.hypergradient_norm.sum(1, dtype=np.float64)
    if since:  # a lost seed's may be infinite, and 0 times that is no number
        norms = norms + last.hypergradient_norm * since
    step = last.step + np.array(steps)
    return History(
        step,
        last.seconds + np.array(seconds),
        last.gradient_evaluations + infos.gradient_evaluations.sum(1),
        np.asarray(norms / (steps + since)),
        *evaluation.losses,
        None,
        _copied(unconstrained),
        evaluation.metrics,
        step,
    )


def blank(evaluation: Evaluation, unconstrained: Hyperparams, evaluations: int) -> History:
    """A history of zeros, from the shapes and dtypes of a record's losses and λ̂."""
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), (evaluation, unconstrained))
    records = [first(*like)] * evaluations
    thin(records)
    return stack(records)


def thin(records: list[History]) -> None:
    """Leave out the λ̂ of some records where there are too many numbers; the last keeps its own."""
    each = sum(leaf.nbytes for leaf in jax.tree.leaves(records[-1].unconstrained))
    stride = 1
    while stride < len(records) and (len(records) / stride + 1) * each > MOST_BYTES:
        stride *= 2
    for i, record in enumerate(records[:-1]):
        if i % stride and record.unconstrained is not None:
            records[i] = record._replace(unconstrained=None)


def stack(records: Sequence[History]) -> History:
    """The history of all records."""

    def stacked(records: Sequence[Any]) -> Any:
        return jax.tree.map(lambda *leaves: np.stack(leaves), *records)

    with_hyperparams = [record for record in records if record.unconstrained is not None]
    history = stacked([record._replace(unconstrained=None) for record in records])
    return history._replace(
        unconstrained=stacked([record.unconstrained for record in with_hyperparams]),
        hyperparams_step=stacked([record.hyperparams_step for record in with_hyperparams]),
    )


def unstack(history: History) -> list[History]:
    """The records of a history."""

    def row(tree: Any, i: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[i], tree)

    rest = history._replace(unconstrained=None, hyperparams_step=history.step)
    kept = {int(step): i for i, step in enumerate(history.hyperparams_step)}
    return [
        row(rest, i)._replace(
            unconstrained=row(history.unconstrained, kept[step]) if step in kept else None
        )
        for i, step in enumerate(history.step.tolist())
    ]


def of_seed(history: History, index: int) -> History:
    """The history of one of several seeds, without their axis."""
    names = "step", "seconds", "hyperparams_step"
    shared = {name: getattr(history, name) for name in names}
    return jax.tree.map(
        lambda leaf: leaf[:, index], history._replace(**dict.fromkeys(names))
    )._replace(**shared)


def summary(record: History) -> dict[str, Any]:
    """All of a record but the hyperparameters, as JSON can hold it."""
    fields = record._asdict()
    for name in ("hyperparams", "unconstrained", "hyperparams_step"):
        del fields[name]
    metrics = {name: values._asdict() for name, values in fields.pop("metrics").items()}
    fields |= {"metrics": metrics} if metrics else {}
    # One by one, for a mapped dict would be in alphabetical order.
    return {
        name: jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), value)
        for name, value in fields.items()
    }


def _copied(unconstrained: Hyperparams) -> Hyperparams:
    # The buffers of a state are donated to the steps that follow.
    return jax.tree.map(np.array, unconstrained)
