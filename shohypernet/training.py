"""Algorithm 1's inner loop: train weights for one λ. `vmap` trains for many at once."""

from typing import Any, NamedTuple

import jax
import optax

from shohypernet.data import minibatch
from shohypernet.problem import Problem


class Trained(NamedTuple):
    """Weights trained for one λ.

    Attributes:
      params: the weights w after the last step.
      train_losses: the training loss before each step, on its minibatch, shape (steps,).
    """

    params: Any
    train_losses: jax.Array


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
      optimizer: α, any optax optimiser.
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
    if steps < 1:
        raise ValueError(f"train() needs steps >= 1, got {steps}.")
    key_init, key_steps = jax.random.split(key)

    def update(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        key_batch, key_loss = jax.random.split(key)
        params, opt_state = carry
        batch = minibatch(key_batch, examples, batch_size)
        loss, gradient = jax.value_and_grad(problem.train_loss)(
            params, hyperparams, batch, key_loss
        )
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), loss

    params = problem.init(key_init)
    carry = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(update, carry, jax.random.split(key_steps, steps))
    return Trained(params, losses)
