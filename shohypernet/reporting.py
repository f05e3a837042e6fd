"""What a tuning was worth, by the only test that counts: trained again, on all data, beside others.

The validation loss that λ was tuned by is too good a number for it: of many hyperparameters it
holds what they learned of the validation examples. `report` trains again at what was found and at
what it is compared with, on the training examples and on those of validation too, and says in words
what follows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from shohypernet._internal import validation
from shohypernet.batches import Data
from shohypernet.problem import Problem
from shohypernet.training import Retrained, hyperparams_of, retrain


class Row(NamedTuple):
    """Losses of weights that were trained at one choice of hyperparameters, a number for each seed.

    Attributes:
      name: of the choice.
      valid_loss: trained on the training examples, shape (seeds,).
      test_loss: likewise.
      test_loss_of_all: trained on training and validation examples, shape (seeds,).
    """

    name: str
    valid_loss: np.ndarray
    test_loss: np.ndarray
    test_loss_of_all: np.ndarray


class Report(NamedTuple):
    """Report of a tuning; `print` it.

    Attributes:
      rows: one for the tuned hyperparameters, then one for each baseline.
      tuned_valid_loss: validation loss of the weights that came with the result.
      tuned_test_loss: their test loss.
      advice: what follows, in sentences.
    """

    rows: list[Row]
    tuned_valid_loss: float
    tuned_test_loss: float
    advice: list[str]

    def __str__(self) -> str:
        """A table, and the advice."""
        width = max(len(row.name) for row in self.rows)
        heads = "validation", "test", "test, trained on all"
        lines = [
            f"as tuned: {self.tuned_valid_loss:.4g} on validation, {self.tuned_test_loss:.4g} on "
            "test examples; trained again:",
            "  ".join([" " * width, *(f"{head:>20}" for head in heads)]),
        ]
        lines += [
            "  ".join([f"{row.name:<{width}}", *(f"{_mean(losses):>20}" for losses in row[1:])])
            for row in self.rows
        ]
        return "\n".join([*lines, *self.advice])


def report(
    problem: Problem,
    result: Any,
    data: Data,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    batch_size: int | None = None,
    baselines: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> Report:
    """Train again at tuned hyperparameters and at others, and say what the tuning was worth.

    Args:
      problem: as it was tuned.
      result: a `Result` or `SearchResult` of one seed.
      data: three splits, with test examples.
      optimizer: α, as one would train the model.
      steps: updates of w, as one would train the model.
      batch_size: examples per step, drawn with replacement; None takes all of them.
      baselines: what a practitioner would take, hyperparameters in natural units by name, such as
        `{"one decay": shn.penalties.decays(params, 1e-3, "layer")}`. By default those that the run
        started from.
      seeds: of initial weights and minibatches, for means and their standard errors.

    Returns:
      The losses, with advice in words.

    Raises:
      ValueError: for data without test examples, a result of several seeds, one seed alone, or a
        search's result without baselines.
    """
    validation.require(
        data[2] is not None, "report() needs test examples, which nothing was chosen by."
    )
    validation.require(
        len(tuple(seeds)) > 1, f"report() needs two seeds or more, for an error, got {seeds}."
    )
    tuned = hyperparams_of(result)
    if baselines is None:
        baselines = {"its start": _start(result)}
    choices = {"tuned": tuned, **baselines}
    sizes = {"optimizer": optimizer, "steps": steps, "batch_size": batch_size, "seeds": seeds}

    def row(name: str, hyperparams: Any) -> Row:
        alone, both = (
            retrain(problem, hyperparams, data, with_valid=with_valid, **sizes)
            for with_valid in (False, True)
        )
        return Row(name, *map(np.asarray, (*_losses(alone), _losses(both)[1])))

    rows = [row(*choice) for choice in choices.items()]
    examples = len(jax.tree.leaves(data[1])[0])
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(tuned))
    found = _tuned_losses(result)
    return Report(rows, *found, advice=_advice(rows, found, count, examples))


def _losses(made: Retrained) -> tuple[Any, Any]:
    return made.losses.valid, made.losses.test


def _start(result: Any) -> Any:
    if not hasattr(result, "history"):
        raise ValueError("report() needs baselines for a search's result: {name: hyperparameters}.")
    return jax.tree.map(lambda leaf: leaf[0], result.history.hyperparams)


def _tuned_losses(result: Any) -> tuple[float, float]:
    if hasattr(result, "history"):
        return float(result.history.valid_loss[-1]), float(result.history.test_loss[-1])
    return float(result.valid_loss), float(result.test_loss)


def _mean(losses: np.ndarray) -> str:
    return f"{losses.mean():.4g} ± {_error(losses):.1g}"


def _error(losses: np.ndarray) -> float:
    """Standard error of the mean."""
    return float(losses.std(ddof=1) / np.sqrt(len(losses)))


def _advice(
    rows: list[Row], found: tuple[float, float], hyperparams: int, examples: int
) -> list[str]:
    """Sentences on the gap of validation and test, and on each baseline."""
    tuned, *others = rows
    advice = []
    gap = tuned.test_loss.mean() - tuned.valid_loss.mean()
    usual = np.mean([row.test_loss.mean() - row.valid_loss.mean() for row in others])
    if hyperparams > 1 and gap - usual > 2 * _error(tuned.test_loss - tuned.valid_loss):
        advice.append(
            f"The validation loss of the tuned hyperparameters is {gap - usual:.2g} lower beside "
            f"their test loss than elsewhere: {hyperparams:,} hyperparameters have learned the "
            f"{examples:,} validation examples. Judge by the test loss; fewer hyperparameters, a "
            "prior, or more validation examples help."
        )
    if found[1] < tuned.test_loss.mean() - 2 * _error(tuned.test_loss):
        advice.append(
            "The weights as tuned test better than those trained again: what helped is the "
            "schedule that λ went through. Give retrain() result.history.schedule, or keep them."
        )
    for row in others:
        gain = row.test_loss_of_all - tuned.test_loss_of_all
        if gain.mean() > 2 * _error(gain):
            verdict = f"is better than {row.name} by {gain.mean():.2g}: tuning paid"
        elif gain.mean() < -2 * _error(gain):
            verdict = f"is worse than {row.name} by {-gain.mean():.2g}: tuning did not pay"
        else:
            verdict = f"can't be told from {row.name} ({gain.mean():+.2g}): no sign that it paid"
        advice.append(f"Trained on all examples, the test loss at the tuned {verdict}.")
    return advice
