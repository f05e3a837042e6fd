"""Worth of a tuning, by the only test that counts: trained again, on all data, beside others.

The validation loss that λ was tuned by is too good a number for it: of many hyperparameters it
holds what they learned of the validation examples. `report` trains again at what was found and at
what it is compared with, on the training examples and on those of validation too, and says in words
what follows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet.batches import Data
from shohypernet.problem import Problem
from shohypernet.sources import Source
from shohypernet.training import at_end, hyperparams_of, retrainer

WORTH_SAYING = 0.01  # of the loss
TOGETHER = 1_000  # examples whose losses are computed side by side


class Row(NamedTuple):
    """Losses of weights that were trained at one choice of hyperparameters.

    Attributes:
      name: of the choice.
      valid: of each validation example, trained on the training examples, shape (seeds, n_valid).
      test: likewise of each test example, shape (seeds, n_test).
      test_of_all: likewise, trained on training and validation examples.
    """

    name: str
    valid: np.ndarray
    test: np.ndarray
    test_of_all: np.ndarray


class Report(NamedTuple):
    """Report of a tuning; `print` it.

    Attributes:
      rows: one for the tuned hyperparameters, then one for each baseline.
      as_tuned: losses of the weights that came with the result, of each validation and test
        example, shapes (n_valid,) and (n_test,).
      advice: what follows, in sentences.
    """

    rows: list[Row]
    as_tuned: tuple[np.ndarray, np.ndarray]
    advice: list[str]

    def __str__(self) -> str:
        """A table with standard errors, over seeds and examples, and the advice."""
        width = max(len(row.name) for row in self.rows)
        heads = "validation", "test", "test, trained on all"
        valid, test = (losses.mean() for losses in self.as_tuned)
        lines = [
            f"as tuned: {valid:.4g} on validation, {test:.4g} on test examples; trained again:",
            "  ".join([" " * width, *(f"{head:>20}" for head in heads)]),
        ]
        lines += [
            "  ".join([f"{row.name:<{width}}", *(f"{_shown(losses):>20}" for losses in row[1:])])
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
      baselines: what a practitioner would take, hyperparameters (or schedules) by name, such as
        `{"one decay": shn.penalties.decays(params, 1e-3, "layer")}`. By default those that the run
        started from.
      seeds: of initial weights and minibatches.

    Returns:
      The losses, with advice in words.

    Raises:
      ValueError: for data without test examples, a result of several seeds, one seed alone, a
        search's result without baselines, or a loss that isn't a mean over examples.
    """
    validation.require(
        data[2] is not None, "report() needs test examples, which nothing was chosen by."
    )
    validation.require(
        not any(isinstance(split, Source) for split in data),
        "report() needs arrays, of which it looks at each example: take some of the source's.",
    )
    validation.require(
        len(tuple(seeds)) > 1, f"report() needs two seeds or more, for an error, got {seeds}."
    )
    tuned = hyperparams_of(result)
    if baselines is None:
        baselines = {"its start": _start(result)}
    choices = {"tuned": tuned, **baselines}
    again = retrainer(problem, data, optimizer, steps, batch_size, seeds, "report")

    def row(name: str, hyperparams: Any) -> Row:
        alone, both = (again(hyperparams, with_valid) for with_valid in (False, True))
        hyperparams = at_end(hyperparams)
        valid, test = (_of_examples(problem, alone[:2], hyperparams, split) for split in data[1:])
        return Row(name, valid, test, _of_examples(problem, both[:2], hyperparams, data[2]))

    rows = [row(*choice) for choice in choices.items()]
    weights = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[None], (result.params, result.model_state)
    )
    valid, test = (_of_examples(problem, weights, tuned, split)[0] for split in data[1:])
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(tuned))
    return Report(rows, (valid, test), advice=_advice(rows, test, count))


def _of_examples(
    problem: Problem, weights: tuple[Any, Any], hyperparams: Any, split: Any
) -> np.ndarray:
    """The validation loss of each example alone, at weights and model state with a seed axis.

    Raises:
      ValueError: if their mean isn't the loss of all.
    """
    natural = problem._replace(space=hp.UNCONSTRAINED)
    split = jax.tree.map(jnp.asarray, split)

    def one_seed(weights: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
        def loss(examples: Any) -> jax.Array:
            return inner_loop.valid_loss(natural, *weights, hyperparams, examples)

        def alone(example: Any) -> jax.Array:
            return loss(jax.tree.map(lambda leaf: leaf[None], example))

        return jax.lax.map(alone, split, batch_size=TOGETHER), loss(split)

    each, whole = map(np.asarray, jax.jit(lambda all: jax.lax.map(one_seed, all))(weights))
    if not np.allclose(each.mean(1), whole, rtol=1e-3):
        raise ValueError(
            "report() needs a validation loss that is a mean over examples, to tell a difference "
            f"from chance; of single examples its mean is {each.mean(1)}, of all {whole}."
        )
    return each


def _start(result: Any) -> Any:
    if not hasattr(result, "history"):
        raise ValueError("report() needs baselines for a search's result: {name: hyperparameters}.")
    return jax.tree.map(lambda leaf: leaf[0], result.history.hyperparams)


def _shown(losses: np.ndarray) -> str:
    return f"{losses.mean():.4g} ± {_error(losses):.1g}"


def _error(losses: np.ndarray) -> float:
    """Standard error of the mean of losses of shape (seeds, n), over both."""
    seeds, examples = losses.shape
    by_seed = losses.mean(1).var(ddof=1) / seeds if seeds > 1 else 0.0
    return float(np.sqrt(by_seed + losses.mean(0).var(ddof=1) / examples))


def _advice(rows: list[Row], as_tuned: np.ndarray, hyperparams: int) -> list[str]:
    """Sentences on the gap of validation and test, and on each baseline.

    Differences are those of the same examples, and count from twice their standard error on.
    """
    tuned, *others = rows
    advice = []
    for row in others:
        on_valid, on_test = row.valid - tuned.valid, row.test - tuned.test
        more = on_valid.mean() - on_test.mean()
        if hyperparams > 1 and more > 2 * np.hypot(_error(on_valid), _error(on_test)):
            advice.append(
                f"Beside {row.name}, the tuned hyperparameters gain {on_valid.mean():.2g} on "
                f"validation and {on_test.mean():.2g} on test examples: {hyperparams:,} of them "
                f"have learned the {on_valid.shape[1]:,} validation examples. Fewer, a prior, or "
                "more validation examples help."
            )
    lost = tuned.test - as_tuned
    if lost.mean() > max(2 * _error(lost), WORTH_SAYING * tuned.test.mean()):
        advice.append(
            f"The weights as tuned test better than those trained again, by {lost.mean():.2g}: "
            "what helped is the schedule that λ went through, or longer training. Try retrain() "
            "with result.history.schedule."
        )
    for row in others:
        gain = row.test_of_all - tuned.test_of_all
        if gain.mean() > 2 * _error(gain):
            verdict = f"is better than {row.name} by {gain.mean():.2g}: tuning paid"
        elif gain.mean() < -2 * _error(gain):
            verdict = f"is worse than {row.name} by {-gain.mean():.2g}: tuning did not pay"
        else:
            verdict = (
                f"can't be told from {row.name} ({gain.mean():+.2g} ± {_error(gain):.1g}): no sign "
                "that it paid"
            )
        advice.append(f"Trained on all examples, the test loss at the tuned {verdict}.")
    return advice
