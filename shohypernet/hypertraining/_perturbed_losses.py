"""Losses of a network that responds to hyperparameters, at λ_b = λ̂ + σ ∘ ε_b, ε_b ~ N(0, I).

    train    mean_b L_train(f₀ + ∂f/∂h · h_b, λ_b, x_b)            linearized in h_b = λ_b − λ̂
    train    mean_b L_train(f(h_b), λ_b, x_b)                      otherwise, with h_b = λ_b
    valid    mean_b L_valid(f(h_b), x_b) − τ Σ_i log(σ_i √(2πe))

f are the outputs of the model, of which the layers respond as in `_structured_response`.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from shohypernet import problem as problems
from shohypernet._internal import convolutions
from shohypernet._internal.layers import Layer
from shohypernet._internal.outputs import Outputs
from shohypernet.hypertraining import _structured_response as structured
from shohypernet.hypertraining._structured_response import LayerResponse
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, ModelState, Params

DRAWS = "shohypernet draws"  # the axis that batch statistics are taken over


class Network(NamedTuple):
    """A problem whose model responds to λ.

    Attributes:
      problem: with λ unconstrained.
      layers: layers that respond.
      linearized: whether the training loss is that of the linearization in λ − λ̂.
      examples_per_draw: consecutive examples of a batch that share a λ_b.
    """

    problem: Problem
    layers: tuple[Layer, ...]
    linearized: bool
    examples_per_draw: int


class Distribution(NamedTuple):
    """p(λ | λ̂, σ).

    Attributes:
      center: λ̂.
      scales: softplus⁻¹(σ), a tree like λ̂.
    """

    center: Hyperparams
    scales: Hyperparams


def train_loss(
    network: Network,
    distribution: Distribution,
    params: Params,
    responses: tuple[LayerResponse, ...],
    model_state: ModelState,
    batch: Batch,
    key: Key,
) -> jax.Array:
    """L_train, each draw of λ on examples of its own.

    A penalty of the weights is taken at two opposite draws: the weights of one λ are a whole set.
    """
    key_draws, key_losses, key_penalty = jax.random.split(key, 3)
    held = problems.with_state(network.problem, model_state)
    center, unravel = ravel_pytree(distribution.center)
    groups, count = _groups(network, batch)
    steps = _steps(distribution, key_draws, count)

    def moved(step: jax.Array) -> jax.Array:
        return step if network.linearized else center + step

    def one(step: jax.Array, examples: Batch, key: Key) -> jax.Array:
        outputs = Outputs(held, unravel(center + step), examples, key)

        def at(amount: Any) -> list[jax.Array]:
            with _shared_statistics():
                return outputs.at(params, _responding(network, responses, amount * moved(step)))

        if network.linearized:
            none, whole = jnp.zeros((), center.dtype), jnp.ones((), center.dtype)
            made = jax.tree.map(jnp.add, *jax.jvp(at, (none,), (whole,)))
        else:
            made = at(1)
        return outputs.loss(jax.lax.stop_gradient(params), made)

    keys = jax.random.split(key_losses, count)
    losses = jax.vmap(one, axis_name=DRAWS)(steps, groups, keys)

    def penalized(step: jax.Array) -> jax.Array:
        examples = jax.tree.map(lambda leaf: leaf[0], groups)
        outputs = Outputs(held, unravel(center + step), examples, key_penalty)
        made = jax.lax.stop_gradient(outputs.at(params))
        weights = structured.weights_at(network.layers, responses, params, moved(step))
        return outputs.loss(weights, made)

    penalty = jnp.mean(jax.vmap(penalized)(jnp.stack([steps[0], -steps[0]])))
    return jnp.mean(losses) + penalty - jax.lax.stop_gradient(penalty)


def valid_loss(
    network: Network,
    distribution: Distribution,
    params: Params,
    responses: tuple[LayerResponse, ...],
    model_state: ModelState,
    batch: Batch,
    key: Key,
    entropy_weight: float,
) -> tuple[jax.Array, jax.Array]:
    """L_valid at draws of λ, less the weighted entropy of p(λ | λ̂, σ); and without the latter.

    Where W stands, λ̂ is held: its gradient goes through the response, and through what L_valid
    itself reads of λ.
    """
    held = problems.with_state(network.problem, model_state)
    center, unravel = ravel_pytree(distribution.center)
    groups, count = _groups(network, batch)
    drawn = center[None] + _steps(distribution, key, count)
    moved = drawn - jax.lax.stop_gradient(center)[None] if network.linearized else drawn

    def one(drawn: jax.Array, moved: jax.Array, examples: Batch) -> jax.Array:
        with _responding(network, responses, moved):
            return held.valid_loss(params, unravel(drawn), examples)

    loss = jnp.mean(jax.vmap(one)(drawn, moved, groups))
    entropy = jnp.sum(jnp.log(_widths(distribution) * math.sqrt(2 * math.pi * math.e)))
    return loss - entropy_weight * entropy, loss


def _widths(distribution: Distribution) -> jax.Array:
    """σ, shape (n,)."""
    return jax.nn.softplus(ravel_pytree(distribution.scales)[0])


def _steps(distribution: Distribution, key: Key, count: int) -> jax.Array:
    """σ ∘ ε_b for each draw, shape (count, n)."""
    widths = _widths(distribution)
    return widths[None] * jax.random.normal(key, (count, widths.size), widths.dtype)


def _groups(network: Network, batch: Batch) -> tuple[Batch, int]:
    """A batch with an axis of groups before that of the examples, and how many there are."""
    count, size = jax.tree.leaves(batch)[0].shape[0], network.examples_per_draw
    if count % size:
        raise ValueError(
            f"self_tuning(examples_per_draw={size}) needs batches of a multiple of {size} "
            f"examples, got {count}."
        )
    groups = count // size
    return jax.tree.map(lambda leaf: leaf.reshape(groups, size, *leaf.shape[1:]), batch), groups


def _responding(
    network: Network, responses: tuple[LayerResponse, ...], moved: jax.Array
) -> contextlib.AbstractContextManager[None]:
    return structured.responding(network.layers, responses, moved)


@contextlib.contextmanager
def _shared_statistics() -> Iterator[None]:
    """Within it, batch normalization takes its statistics over all draws, as over one batch."""

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if not isinstance(module, nn.BatchNorm) or module.axis_name is not None:
            return call(*args, **kwargs)
        with convolutions.attribute(module, "axis_name", DRAWS):
            return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield
