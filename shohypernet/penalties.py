"""Penalties L_reg(w, λ): how a hyperparameter enters the training loss.

Every decay here is in natural units (a non-negative coefficient). Methods move its logarithm: pair
a penalty with the space `hyperparameters.log()`.

A decay may be given at any grain, from one number to one number a weight, because it is matched to
the weights as a *prefix* of their tree, each of its leaves broadcast from the last axis on:

    one for the whole model      decay                           shape ()
    one a class (linear model)   decay                           shape (10,)
    one a layer                  {"Dense_0": decay, ...}         shapes ()
    one a weight                 {"Dense_0": {"kernel": decay}}  shapes of the weights

`decays` builds the first value of each.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

Grain = Literal["model", "layer", "output", "weight"]


def decays(params: Any, value: float, per: Grain) -> Any:
    """Hyperparameters that hold `value` once per model, layer, output unit or weight.

    Args:
      params: weights, or their `jax.ShapeDtypeStruct`s; a mapping at the top for `per="layer"`.
      value: the value of each, in whatever space the caller moves (log decay, usually).
      per: the grain. "output" is one value for each index of the last axis of every weight array;
        where a linear model's kernel and bias share theirs, write `jnp.full(10, value)`.

    Returns:
      A tree that is a prefix of `params`.

    Raises:
      ValueError: for an unknown grain, or for "layer" when `params` is not a mapping.
    """
    match per:
        case "model":
            return jnp.full((), value)
        case "layer":
            if not isinstance(params, Mapping):
                raise ValueError(
                    "per='layer' needs weights in a mapping from layer names, as Flax makes; "
                    f"got {type(params).__name__}. Use per='model', 'output' or 'weight'."
                )
            return {name: jnp.full((), value) for name in params}
        case "output":
            return jax.tree.map(lambda leaf: jnp.full(leaf.shape[-1:], value), params)
        case "weight":
            return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), params)
    raise ValueError(f"per must be 'model', 'layer', 'output' or 'weight', got {per!r}.")


def weight_decay(params: Any, decay: Any) -> jax.Array:
    """Squared weights, each times its decay: Σ_i decay_i w_i².

    Args:
      params: weights.
      decay: non-negative coefficients, a prefix of `params` (see the module's docstring).

    Returns:
      A scalar.

    Raises:
      ValueError: if a decay cannot be broadcast to the weights that it stands for.
    """
    weighted = _over_weights(lambda leaf, coefficient: coefficient * leaf**2, params, decay)
    return jnp.asarray(optax.tree.sum(weighted))


def norm_penalty(params: Any, decay: Any) -> jax.Array:
    """Euclidean norm of all weights, each times its decay: ‖decay ∘ w‖₂ (not squared).

    With one decay for the model this is exp(λ)·‖w‖₂, the penalty of the paper's small experiments.

    Args:
      params: weights.
      decay: non-negative coefficients, a prefix of `params`.

    Returns:
      A scalar.

    Raises:
      ValueError: if a decay cannot be broadcast to the weights that it stands for.
    """
    return _norm(_over_weights(lambda leaf, coefficient: coefficient * leaf, params, decay))


def class_norm_penalty(params: Any, decay: jax.Array) -> jax.Array:
    """Mean over classes of ‖decay_c · w_c‖₂, w_c all weights that end in output c.

    Args:
      params: weights of a linear model; every array has the classes on its last axis.
      decay: one coefficient a class, shape (classes,).

    Returns:
      A scalar.
    """
    scaled = _over_weights(lambda leaf, coefficient: coefficient * leaf, params, decay)
    by_class = jax.tree.map(lambda leaf: leaf.reshape(-1, decay.size), scaled)
    return jnp.mean(jax.vmap(_norm, in_axes=1)(by_class))


def spread(hyperparams: Any, params: Any) -> Any:
    """Each hyperparameter, repeated for every weight that it stands for.

    Args:
      hyperparams: a prefix of `params` (see the module's docstring).
      params: weights.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: if a hyperparameter cannot be broadcast to the weights that it stands for.
    """

    def over(value: jax.Array, leaf: jax.Array) -> jax.Array:
        try:
            return jnp.broadcast_to(value, leaf.shape)
        except ValueError as error:
            raise ValueError(
                f"a hyperparameter of shape {jnp.shape(value)} does not broadcast to weights of "
                f"shape {leaf.shape}; give one number, one a last-axis unit, or one a weight "
                "(penalties.decays makes each)."
            ) from error

    return jax.tree.map(
        lambda value, below: jax.tree.map(lambda leaf: over(value, leaf), below),
        hyperparams,
        params,
    )


def _norm(tree: Any) -> jax.Array:
    # The floor keeps the gradient finite where every weight is exactly zero.
    squares = optax.tree.norm(tree, squared=True)
    return jnp.sqrt(jnp.maximum(squares, jnp.finfo(jnp.float32).tiny))


def _over_weights(function: Any, params: Any, decay: Any) -> Any:
    return jax.tree.map(function, params, spread(decay, params))
