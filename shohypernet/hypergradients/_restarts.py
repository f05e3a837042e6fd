"""The two ways in which a gradient method's rounds follow each other.

Either every round trains *anew*, from the same w_0 for the same number of steps, so that λ is tuned
for that training; or the weights *go on* from round to round (a warm start), so that they follow
the moving λ and no training is ever finished.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet.hypergradients._inner import Estimate, Inner
from shohypernet.hyperoptimizer import HyperOptimizer, Info

Start = Callable[[jax.Array, Any], Inner]  # of a key and λ
Round = Callable[[Any, Inner, Any, Any, jax.Array], Estimate]  # λ, inner, batches, key


class AnewState(NamedTuple):
    """What a round needs that trains from the start.

    Attributes:
      hyperparams: λ, unconstrained.
      start: w_0 and the inner optimizer's first state, the same in every round.
      params: the weights at the last round's end, trained with the λ before its update.
      hyper_opt_state: the optimizer of λ.
    """

    hyperparams: Any
    start: Inner
    params: Any
    hyper_opt_state: Any


class GoingOnState(NamedTuple):
    """What a round needs that goes on from the last one.

    Attributes:
      hyperparams: λ, unconstrained.
      inner: the weights and their optimizer's state.
      hyper_opt_state: the optimizer of λ.
    """

    hyperparams: Any
    inner: Inner
    hyper_opt_state: Any


def anew(start: Start, estimate: Round, optimizer: optax.GradientTransformation) -> HyperOptimizer:
    """A method whose rounds all train from the same w_0."""

    def init(key: jax.Array, hyperparams: Any) -> AnewState:
        hyperparams = typed(hyperparams)
        first = start(key, hyperparams)
        return AnewState(hyperparams, first, first.params, optimizer.init(hyperparams))

    def step(
        key: jax.Array, state: AnewState, train_batches: Any, valid_batch: Any
    ) -> tuple[AnewState, Info]:
        made = estimate(state.hyperparams, state.start, train_batches, valid_batch, key)
        hyperparams, opt_state = move(
            optimizer, made.gradient, state.hyper_opt_state, state.hyperparams
        )
        state = AnewState(hyperparams, state.start, made.inner.params, opt_state)
        return state, info(made)

    return HyperOptimizer(init, step, lambda state: state.params)


def going_on(
    start: Start, estimate: Round, optimizer: optax.GradientTransformation
) -> HyperOptimizer:
    """A method whose weights persist from round to round."""

    def init(key: jax.Array, hyperparams: Any) -> GoingOnState:
        hyperparams = typed(hyperparams)
        return GoingOnState(hyperparams, start(key, hyperparams), optimizer.init(hyperparams))

    def step(
        key: jax.Array, state: GoingOnState, train_batches: Any, valid_batch: Any
    ) -> tuple[GoingOnState, Info]:
        made = estimate(state.hyperparams, state.inner, train_batches, valid_batch, key)
        hyperparams, opt_state = move(
            optimizer, made.gradient, state.hyper_opt_state, state.hyperparams
        )
        return GoingOnState(hyperparams, made.inner, opt_state), info(made)

    return HyperOptimizer(init, step, lambda state: state.inner.params)


def typed(hyperparams: Any) -> Any:
    """λ with dtypes of its own, not Python's weak ones, which the first step would change."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), hyperparams)


def move(
    optimizer: optax.GradientTransformation, gradient: Any, opt_state: Any, hyperparams: Any
) -> tuple[Any, Any]:
    """λ after one update, and its optimizer's state."""
    change, opt_state = optimizer.update(gradient, opt_state, hyperparams)
    return optax.apply_updates(hyperparams, change), opt_state


def info(made: Estimate) -> Info:
    """An Info of a round."""
    return Info(
        made.train_loss,
        made.valid_loss,
        optax.tree.norm(made.gradient),
        jnp.asarray(made.gradient_evaluations, jnp.int32),
    )
