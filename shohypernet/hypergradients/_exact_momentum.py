"""SGD with momentum in arithmetic that can be undone, for `reversible`.

    forward    v_t = γ v_{t−1} − α ∇L_train(w_{t−1}),   w_t = w_{t−1} + v_t
    backward   w_{t−1} = w_t − v_t,   v_{t−1} = (v_t + α ∇L_train(w_{t−1})) / γ

Maclaurin et al. (2015), arXiv:1502.03492, Algorithms 1 and 3.
"""

from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from shohypernet import inner_loop
from shohypernet.hypergradients import _lossless as lossless
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams, Params


class Exact(NamedTuple):
    """A point of the trajectory, as int32, and the buffer.

    Attributes:
      position: w, shape (D,).
      velocity: v, shape (D,).
      buffer: the words of lost bits, uint32, shape (words, D).
    """

    position: jax.Array
    velocity: jax.Array
    buffer: jax.Array


class Descent(NamedTuple):
    """The dynamics, with everything but the point and the time already given.

    Attributes:
      at_rest: `at_rest(params) -> Exact`: w_0, no velocity, an empty buffer.
      step: `step(exact, t, ahead) -> (exact, loss, fits)`: the step from w_{t−1} to w_t if ahead,
        or what it was made of. `fits` tells whether the numbers stayed within the range of
        fixed-point ones.
      params: `params(exact) -> tree`, the weights that the point stands for.
    """

    at_rest: Any
    step: Any
    params: Params


def descent(
    problem: Problem,
    learning_rate: jax.Array,
    momentum: Fraction,
    hyperparams: Hyperparams,
    like: Any,
    inputs: tuple[Any, jax.Array],
    bits: int,
) -> Descent:
    """SGD with momentum on L_train(·, λ) in arithmetic that can be undone.

    Args:
      problem: gives the training loss.
      learning_rate: α.
      momentum: γ.
      hyperparams: λ.
      like: weights, for their form.
      inputs: the batches and keys of the T steps.
      bits: of the fixed-point numbers after the point.
    """
    flat, unravel_as = ravel_pytree(like)
    dtype = jnp.promote_types(flat.dtype, jnp.float32)  # of the arithmetic

    def unravel(numbers: jax.Array) -> Params:
        return unravel_as(numbers.astype(flat.dtype))

    used = lossless.words(inner_loop.count(inputs[0]), momentum)
    word_of = jnp.asarray(used, jnp.int32)
    largest = 2.0 ** (lossless.WORD_BITS - 1 - bits)

    def push(position: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """−α ∇L_train, the same as fixed-point numbers, and the loss."""
        batch, key = at(inputs, t)
        loss, gradient = jax.value_and_grad(
            lambda flat: problem.train_loss(unravel(flat), hyperparams, batch, key)
        )(lossless.decode(position, bits, dtype))
        change = -learning_rate * gradient
        return change, lossless.encode(change, bits), loss

    def at_rest(params: Params) -> Exact:
        position = lossless.encode(ravel_pytree(params)[0], bits)
        buffer = jnp.zeros((used[-1] + 1, position.size), jnp.uint32)
        return Exact(position, jnp.zeros_like(position), buffer)

    def step(exact: Exact, t: jax.Array, ahead: jax.Array) -> tuple[Exact, jax.Array, jax.Array]:
        position, velocity, buffer = exact
        # One gradient for both directions. Of two XLA would compile each as it fits in there, to
        # numbers that are rounded otherwise.
        before = jnp.where(ahead, position, position - velocity)
        change, pushed, loss = push(before, t)
        word = word_of[t]
        slower, kept = lossless.multiply(velocity, buffer[word], momentum)
        slower = slower + pushed
        faster, left = lossless.divide(velocity - pushed, buffer[word], momentum)
        # In integers a sum too large would wrap around without a word.
        reach = lossless.decode(position, bits, dtype) + lossless.decode(slower, bits, dtype)
        fits = jnp.all((jnp.abs(reach) < largest) & (jnp.abs(change) < largest))
        moved = Exact(
            before + jnp.where(ahead, slower, 0),
            jnp.where(ahead, slower, faster),
            buffer.at[word].set(jnp.where(ahead, kept, left)),
        )
        return moved, loss, fits

    def params(exact: Exact) -> Any:
        return unravel(lossless.decode(exact.position, bits, dtype))

    return Descent(at_rest, step, params)


def at(inputs: tuple[Any, jax.Array], t: jax.Array) -> tuple[Any, jax.Array]:
    """The batch and the key of step t."""
    return jax.tree.map(lambda leaf: leaf[t], inputs)
