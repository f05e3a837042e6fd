"""Algorithm 1's inner loop: train weights for one λ. `vmap` trains for many at once.

    w ← w − α ∇_w L_train(w, λ, x)

`train` does all of it. `start`, `step_key` and `update` are its parts, for a search that pauses
trainings and goes on with some: step t of a training is drawn from fold_in(key, t), so one that was
paused goes through the same numbers as one that never was.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.batches import minibatch
from shohypernet.problem import Problem


class Training(NamedTuple):
    """What the next step of a training needs.

    Attributes:
      params: the weights w so far.
      opt_state: the optimizer of w.
    """

    params: Any
    opt_state: Any


class Trained(NamedTuple):
    """Weights trained for one λ.

    Attributes:
      params: the weights w after the last step.
      train_losses: the training loss before each step, on its minibatch, shape (steps,).
    """

    params: Any
    train_losses: jax.Array


def start(problem: Problem, optimizer: optax.GradientTransformation, key: jax.Array) -> Training:
    """A training before its first step."""
    params = problem.init(jax.random.split(key)[0])
    return Training(params, optimizer.init(params))


def step_key(key: jax.Array, step: Any) -> jax.Array:
    """The key of a training's step, by its number from 0 on, from the key that started it."""
    return jax.random.fold_in(jax.random.split(key)[1], step)


def update(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    training: Training,
    hyperparams: Any,
    examples: Any,
    *,
    batch_size: int | None = None,
) -> tuple[Training, jax.Array]:
    """One step of a training, and the training loss before it; `key` is the step's own."""
    key_batch, key_loss = jax.random.split(key)
    params, opt_state = training
    batch = minibatch(key_batch, examples, batch_size)
    loss, gradient = jax.value_and_grad(problem.train_loss)(params, hyperparams, batch, key_loss)
    change, opt_state = optimizer.update(gradient, opt_state, params)
    return Training(optax.apply_updates(params, change), opt_state), loss


def train(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    hyperparams: Any,
    examples: Any,
    *,
    steps: int,
    batch_size: int | None = None,
) -> Trained:
    """Weights trained from scratch on L_train(·, λ).

        w ← w − α ∇_w L_train(w, λ, x)

    A pure function, so a population of trainings is one compiled call that shares the data:

        jax.vmap(lambda λ: train(problem, optax.adam(1e-3), key, λ, data.train, steps=1_000))(many)

    Args:
      problem: gives the initial weights and the training loss.
      optimizer: α, any optax optimizer.
      key: for the initial weights, the minibatches and what is random in the loss.
      hyperparams: λ, unconstrained.
      examples: the training data, a tree with a shared leading axis.
      steps: updates of w.
      batch_size: examples a step, drawn with replacement; None takes all of them each step.

    Returns:
      The weights and the losses on the way.

    Raises:
      ValueError: if steps is below 1.

    Reference:
      The inner loop of Algorithm 1, arXiv:1802.09419.
    """
    validation.whole("train", steps=steps)

    def body(training: Training, key: jax.Array) -> tuple[Training, jax.Array]:
        return update(
            problem, optimizer, key, training, hyperparams, examples, batch_size=batch_size
        )

    # All keys in one go: drawn in the loop, they would take as long as a small product.
    keys = jax.vmap(step_key, (None, 0))(key, jnp.arange(steps))
    training, losses = jax.lax.scan(body, start(problem, optimizer, key), keys)
    return Trained(training.params, losses)
