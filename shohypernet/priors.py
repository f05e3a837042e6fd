"""Priors of hyperparameters, for where there are many (hyper-regularization).

    minimize L_valid(w*(λ)) − (1/n) log p(λ)

A prior needs no w, so that it only adds to the hypergradient, in front of the optimizer of λ:

    hyper_optimizer=optax.chain(shn.priors.pooled(0.5, examples=1_000), optax.adam(3e-2))

n is the number of validation examples, of which L_valid is the mean: then it is the mean of the
negative log posterior, if L_valid is that of a likelihood, such as a cross-entropy. A squared error
stands for 2σ² of it at a noise of variance σ²; give n/(2σ²) there.

λ is unconstrained: log decays for `hyperparameters.log()`. In `self_tuning` the prior is of λ̂, and
σ is left alone.

Lorraine and Duvenaud (2018), arXiv:1802.09419, name hyper-regularization among what is to come.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.types import Hyperparams


class NormalState(NamedTuple):
    """State of `normal`: λ where the run starts."""

    center: Hyperparams


def normal(scale: float, *, examples: float) -> optax.GradientTransformation:
    """λ ~ N(λ₀, scale²), each by itself around where the run starts.

        g ← g + (λ − λ₀) / (n scale²)

    Args:
      scale: standard deviation of each number of λ, unconstrained.
      examples: n, the number of validation examples.

    Returns:
      An optax transformation that comes first in `optax.chain`.

    Raises:
      ValueError: for a scale or number that isn't positive.
    """

    def init(params: Hyperparams) -> NormalState:
        return NormalState(params)

    def deviations(hyperparams: Hyperparams, state: Any) -> Hyperparams:
        return optax.tree.sub(hyperparams, state.center)

    return _prior("normal", init, deviations, scale, examples)


def pooled(scale: float, *, examples: float) -> optax.GradientTransformation:
    """λ_i ~ N(m, scale²) within each array of λ, whose mean m is free (partial pooling).

        g_i ← g_i + (λ_i − m) / (n scale²),    m the mean of the array that λ_i is in

    With a decay for each weight, a small scale gives one decay for each layer, and a large one
    leaves every weight its own.

    Args:
      scale: standard deviation of the numbers of an array around their mean, unconstrained.
      examples: n, the number of validation examples.

    Returns:
      An optax transformation that comes first in `optax.chain`. Its `init` raises a ValueError for
      λ without an array of two numbers or more.

    Raises:
      ValueError: for a scale or number that isn't positive.
    """

    def init(params: Hyperparams) -> optax.EmptyState:
        if all(jnp.size(leaf) < 2 for leaf in jax.tree.leaves(params)):
            raise ValueError(
                "priors.pooled() holds the numbers of an array together, and λ has one in each; "
                "take priors.normal()."
            )
        return optax.EmptyState()

    def deviations(hyperparams: Hyperparams, state: Any) -> Hyperparams:
        del state
        return jax.tree.map(lambda leaf: leaf - jnp.mean(leaf), hyperparams)

    return _prior("pooled", init, deviations, scale, examples)


def _prior(
    function: str,
    init: optax.TransformInitFn,
    deviations: Callable[[Hyperparams, Any], Hyperparams],
    scale: float,
    examples: float,
) -> optax.GradientTransformation:
    """A normal distribution of deviations: its part of the gradient is theirs over n scale²."""
    validation.positive(f"priors.{function}", scale=scale, examples=examples)

    def update(
        updates: Any, state: Any, params: Any = None, *, scales: bool = False, **others: Any
    ) -> tuple[Any, Any]:
        del others
        if scales:
            return updates, state
        if params is None:
            raise ValueError(f"priors.{function}() needs λ: update(gradient, state, λ).")
        precision = 1 / (examples * scale**2)
        found = optax.tree.add_scale(updates, precision, deviations(params, state))
        return found, state

    return optax.GradientTransformationExtraArgs(init, update)
