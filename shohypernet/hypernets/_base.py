"""The protocol of hypernets, and what they share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from shohypernet.types import Hyperparams, Key, Params

PAPER_INIT_SCALE = 0.01
"""Standard deviation of the initial φ in the paper."""


class Posterior(NamedTuple):
    """What a distribution over φ has besides its mean.

    Attributes:
      draw: `draw(key, hypernet_params) -> hypernet_params`, whose mean is drawn from the
        distribution: one hypernet for all λ.
      weights: `weights(key, hypernet_params, hyperparams) -> params`, drawn weights for one λ;
        those of one key for several λ may come from several φ.
      divergence: `divergence(key, hypernet_params)`, its KL divergence from the prior, or an
        unbiased estimate, scalar.
    """

    draw: Callable[[Key, Params], Params]
    weights: Callable[[Key, Params, Hyperparams], Params]
    divergence: Callable[[Key, Params], jax.Array]


class Hypernet(NamedTuple):
    """A model of the best response, w_φ(λ) ≈ argmin_w L_train(w, λ), with λ unconstrained.

    Attributes:
      init: `init(key, params, hyperparams) -> hypernet_params` φ, from fresh weights of the model,
        of the form to be made, and the λ that the run starts from: any tree of floating-point
        arrays.
      apply: `apply(hypernet_params, hyperparams) -> params` w, for one λ; `vmap` gives many.
      posterior: of φ, where φ is a distribution, whose mean is what `apply` takes.
    """

    init: Callable[[Key, Params, Hyperparams], Params]
    apply: Callable[[Params, Hyperparams], Params]
    posterior: Posterior | None = None


def require_floating(params: Params) -> None:
    """Refuse weights that no hypernet can make.

    Raises:
      ValueError: for an empty tree, or weights that aren't floating point.
    """
    leaves = jax.tree.leaves(params)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ValueError(
            "a hypernet makes a tree of floating-point weights with at least one array, got "
            f"{jax.tree.map(lambda leaf: leaf.dtype, params)}."
        )


def ravel(hyperparams: Hyperparams) -> jax.Array:
    """All hyperparameters in one vector, in the order of the tree."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(hyperparams)])
