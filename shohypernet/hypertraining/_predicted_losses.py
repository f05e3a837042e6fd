"""Validation losses that a Bayesian hypernet predicts, and their uncertainty.

ℓ_s(λ) = L_valid(w_φ(λ)),    φ ~ q for s = 1 … S
"""

from typing import Any

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop, sources
from shohypernet import problem as problems
from shohypernet._internal import validation
from shohypernet.hypernets import Hypernet
from shohypernet.hypertraining._variational import posterior_of
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Hyperparams, Key, Params


def predicted_losses(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_params: Params,
    hyperparams: Hyperparams,
    examples: Batch,
    key: Key,
    *,
    draws: int = 50,
) -> jax.Array:
    """Validation losses at several λ, of several hypernets drawn from the posterior.

    Each draw is one hypernet for all λ, so that a row is a curve that might be the true one.

    Args:
      problem: the bilevel problem.
      hypernet: the Bayesian hypernet.
      hypernet_params: q(φ), such as `result.state.hypernet_params`.
      hyperparams: λ in natural units, each leaf with a leading axis of one entry per λ.
      examples: those to validate on, or a source of them, which is read once for each draw.
      key: PRNG key of the draws.
      draws: S, number of them.

    Returns:
      Losses, shape (draws, number of λ). They say what the posterior says, no more: check its
      intervals on models that were trained before relying on them.

    Raises:
      TypeError: for a hypernet that isn't Bayesian.
      ValueError: for draws below 1, or hyperparameters outside of the space or without that axis.
    """
    posterior_of("predicted_losses", hypernet)
    validation.whole("predicted_losses", draws=draws)
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(hyperparams)}
    validation.require(
        len(counts) == 1 and not counts & {(), (0,)},
        "predicted_losses() needs hyperparameters with a leading axis in common, one entry per λ, "
        f"got shapes {jax.tree.map(np.shape, hyperparams)}; of a single λ, add one: "
        "jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], λ).",
    )
    inner = unconstrained(problem)
    points = hp.encode(problem.space, hyperparams)

    @jax.jit
    def losses(hypernet_params: Params, points: Hyperparams, examples: Batch, key: Key) -> Any:
        held = problems.with_state(inner, problems.initialize(problem, key)[1])
        return losses_of_draws(held, hypernet, hypernet_params, points, examples, key, draws)

    with sources.reading(valid=examples):
        return jax.block_until_ready(losses(hypernet_params, points, examples, key))


def losses_of_draws(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_params: Params,
    points: Hyperparams,
    batch: Batch,
    key: Key,
    draws: int,
) -> jax.Array:
    """L_valid(w_φ(λ)) of φ that are drawn, one after another, shape (draws, number of λ)."""
    draw = posterior_of("predicted_losses", hypernet).draw

    def of_draw(key: Key) -> jax.Array:
        drawn = draw(key, hypernet_params)
        return losses_at(problem, hypernet, drawn, points, batch)

    return jax.lax.map(of_draw, jax.random.split(key, draws))


def losses_at(
    problem: Problem, hypernet: Hypernet, hypernet_params: Params, points: Hyperparams, batch: Batch
) -> jax.Array:
    """L_valid(w_φ(λ)) of one φ, for an unconstrained problem and its λ, shape (number of λ,)."""

    def loss(hyperparams: Hyperparams) -> jax.Array:
        params = hypernet.apply(hypernet_params, hyperparams)
        return inner_loop.whole_valid_loss(problem, params, (), hyperparams, batch)

    return jax.vmap(loss)(points)
