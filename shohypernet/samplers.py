"""Distributions p(λ) that hypernets are trained under, in unconstrained space.

A *sampler*, `sampler(key, hyperparams) -> hyperparams`, draws one λ from a fixed p(λ) or, near the
current λ̂, from p(λ | λ̂); methods `vmap` it.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from shohypernet import hyperparameters as hp
from shohypernet._internal import random, validation
from shohypernet._internal.validation import require, require_bounds
from shohypernet.types import Hyperparams, Key, Space

Sampler = Callable[[Key, Hyperparams], Hyperparams]


def gaussian(loc: float = 0.0, scale: float = 1.0) -> Sampler:
    """Sampler of a fixed broad p(λ) = N(loc, scale²), every entry alike (Algorithm 2).

    Args:
      loc: mean, in unconstrained units.
      scale: standard deviation, likewise.

    Raises:
      ValueError: for a non-finite number, or a negative scale.
    """
    require(math.isfinite(loc), f"gaussian() needs a finite loc, got {loc}.")
    validation.not_negative("gaussian", scale=scale)

    def sample(key: Key, hyperparams: Hyperparams) -> Hyperparams:
        noise = random.random_like(key, hyperparams)
        return jax.tree.map(lambda leaf: loc + scale * leaf, noise)

    return sample


def uniform(low: float, high: float) -> Sampler:
    """Sampler of a fixed p(λ) = U[low, high], every entry alike.

    Args:
      low: lower end, in unconstrained units.
      high: upper end, likewise.

    Raises:
      ValueError: unless low < high.
    """
    require_bounds("uniform", low, high)

    def sample(key: Key, hyperparams: Hyperparams) -> Hyperparams:
        noise = random.random_like(key, hyperparams, jax.random.uniform)
        return jax.tree.map(lambda leaf: low + (high - low) * leaf, noise)

    return sample


def prior(space: Space) -> Sampler:
    """Sampler of a fixed p(λ), the prior of each spec of a space: wide ranges, each its own.

    Args:
      space: tree of specs, a prefix of the hyperparameters' tree: usually `problem.space`.

    Raises:
      ValueError: if the space holds an integer or a category.
    """
    hp.require_differentiable(space)
    return lambda key, hyperparams: hp.sample(key, space, hyperparams)


def fixed_set(points: Any) -> Sampler:
    """Sampler of a p(λ) that is uniform over given λ, such as those of trained models.

    Args:
      points: tree like the hyperparameters, each leaf with a leading axis of one entry per λ,
        unconstrained.

    Raises:
      ValueError: unless the leaves share a leading axis of at least one.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(points)]
    counts = {shape[:1] for shape in shapes}
    require(
        len(counts) == 1 and not counts <= {(), (0,)},
        f"fixed_set() needs a leading axis in common, of one λ or more, got shapes {shapes}.",
    )
    (count,) = counts.pop()

    def sample(key: Key, hyperparams: Hyperparams) -> Hyperparams:
        del hyperparams
        index = jax.random.randint(key, (), 0, count)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], points)

    return sample


def local_gaussian(scale: float) -> Sampler:
    """Sampler of p(λ | λ̂) = N(λ̂, scale²), every entry alike (Algorithm 3).

    Args:
      scale: standard deviation, in unconstrained units; 0 samples λ̂ itself.

    Raises:
      ValueError: for a negative or non-finite scale.
    """
    validation.not_negative("local_gaussian", scale=scale)

    def sample(key: Key, hyperparams: Hyperparams) -> Hyperparams:
        noise = random.random_like(key, hyperparams)
        return jax.tree.map(lambda center, leaf: center + scale * leaf, hyperparams, noise)

    return sample


def clipped(sampler: Sampler, low: float, high: float) -> Sampler:
    """Samples of another sampler, clipped to [low, high].

    Args:
      sampler: the other sampler.
      low: lower end, in unconstrained units.
      high: upper end, likewise.

    Raises:
      ValueError: unless low < high.
    """
    require_bounds("clipped", low, high)
    return lambda key, hyperparams: jax.tree.map(
        lambda leaf: jnp.clip(leaf, low, high), sampler(key, hyperparams)
    )
