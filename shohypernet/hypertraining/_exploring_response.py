"""Algorithm 2 with φ trained where λ may be best, by what is uncertain of φ.

    c = argmin_i a(L_valid(w_φ₁(λ_i)) … L_valid(w_φ_S(λ_i)))    λ_1 … λ_C ~ p(λ), φ_1 … φ_S ~ q
    λ_k ~ p(λ | λ_c);  (μ, ρ) ← (μ, ρ) − α ∇ ELBO                for each training batch
    λ̂ ← λ̂ − β ∇_λ̂ L_valid(w_μ(λ̂)), or λ_c where that is better  once

Lorraine and Duvenaud (2018), arXiv:1802.09419, leave exploration under uncertainty to be done, and
name Bayes by Backprop for it. Thompson (1933), "On the likelihood that one unknown probability
exceeds another in view of the evidence of two samples", Biometrika 25.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import validation
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import _updates as updates
from shohypernet.hypertraining._predicted_losses import losses_at, losses_of_draws
from shohypernet.hypertraining._updates import HypernetState
from shohypernet.hypertraining._variational import posterior_of, variational
from shohypernet.problem import Problem, unconstrained
from shohypernet.samplers import Sampler
from shohypernet.types import Batch, Hyperparams, Key


class Choice(NamedTuple):
    """A rule by which one candidate is chosen, that of the least score.

    Attributes:
      draws: S, hypernets that are drawn from the posterior.
      score: `score(losses)`, from losses (S, C) of the candidates to scores (C,).
    """

    draws: int
    score: Callable[[jax.Array], jax.Array]


def thompson() -> Choice:
    """Thompson sampling: the best candidate of one hypernet that is drawn."""
    return Choice(1, lambda losses: losses[0])


def optimistic(deviations: float = 2.0, *, draws: int = 4) -> Choice:
    """The candidate of the least mean loss less some standard deviations, over several draws.

    Args:
      deviations: how many.
      draws: hypernets that mean and deviation are estimated from.

    Raises:
      ValueError: for negative deviations, or fewer than 2 draws.
    """
    validation.not_negative("optimistic", deviations=deviations)
    validation.whole("optimistic", least=2, draws=draws)
    return Choice(draws, lambda losses: jnp.mean(losses, 0) - deviations * jnp.std(losses, 0))


def exploring_response(
    problem: Problem,
    hypernet: Hypernet,
    *,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    candidates: Sampler,
    sampler: Sampler,
    examples: float,
    choice: Choice | None = None,
    candidate_count: int = 32,
    samples: int = 2,
) -> HyperOptimizer:
    """Hyper-training that explores by the uncertainty of a Bayesian hypernet.

    Args:
      problem: the bilevel problem; its validation loss may have several minima.
      hypernet: the model of the best response over all of p(λ), `hypernets.bayesian(...)`.
      hypernet_optimizer: α, for the means and deviations of φ.
      hyper_optimizer: β, for λ̂.
      candidates: p(λ), as broad as the search is to be.
      sampler: p(λ | λ_c), of the λ that φ is trained at, given the one that was chosen.
      examples: N of `variational`, the training examples that the training loss is a mean over.
      choice: rule for λ_c, `thompson()` by default, or `optimistic(...)`.
      candidate_count: C, λ drawn in each round to choose from.
      samples: K, sampled λ for each φ update.

    Returns:
      A HyperOptimizer whose round takes samples · inner steps + 1 gradient evaluations, and losses
      at C · draws + 2 pairs of λ and φ, which are counted as so many more.

    Raises:
      TypeError: for a hypernet that isn't Bayesian.
      ValueError: for a count below 1, or examples that aren't positive.

    Reference:
      Lorraine and Duvenaud (2018), arXiv:1802.09419, on its limits.
    """
    posterior_of("exploring_response", hypernet)
    validation.whole("exploring_response", candidate_count=candidate_count)
    validation.positive("exploring_response", examples=examples)
    rule = thompson() if choice is None else choice
    inner = unconstrained(problem)
    optimizers, loss = (hypernet_optimizer, hyper_optimizer), variational(examples)
    parts = updates.build(
        "exploring_response", inner, hypernet, *optimizers, sampler, samples, loss
    )

    def chosen(key: Key, held: Problem, state: HypernetState, valid_batch: Batch) -> Hyperparams:
        key_points, key_draws = jax.random.split(key)
        keys = jax.random.split(key_points, candidate_count)
        points = jax.vmap(candidates, (0, None))(keys, state.hyperparams)
        losses = losses_of_draws(
            held, hypernet, state.hypernet_params, points, valid_batch, key_draws, rule.draws
        )
        best = jnp.nanargmin(rule.score(losses))
        return jax.tree.map(lambda leaf: leaf[best], points)

    def step(
        key: Key, state: HypernetState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[HypernetState, Info]:
        key_choice, key_train = jax.random.split(key)
        held = problems.with_state(inner, state.model_state)
        there = chosen(key_choice, held, state, valid_batch)
        trained, train_loss = parts.train_hypernet(
            key_train, state._replace(hyperparams=there), train_batches
        )
        state = trained._replace(hyperparams=state.hyperparams)
        valid_loss, gradient = parts.hypergradient(state, valid_batch)
        state = parts.move_hyperparams(state, gradient, valid_loss)
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), state.hyperparams, there)
        best = jnp.nanargmin(losses_at(held, hypernet, state.hypernet_params, both, valid_batch))
        state = state._replace(hyperparams=jax.tree.map(lambda leaf: leaf[best], both))
        evaluations = samples * inner_loop.count(train_batches) + 1
        evaluations += candidate_count * rule.draws + 2
        return state, updates.info(train_loss, valid_loss, gradient, evaluations)

    return HyperOptimizer(
        parts.init,
        step,
        parts.weights,
        lambda state: state.model_state,
        problem,
        weights_at=parts.weights_at,
    )
