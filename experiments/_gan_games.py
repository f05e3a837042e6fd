"""Two games of one number each, in which the players of a GAN can be followed by hand.

The leader λ minimizes and the follower w maximizes

    V(λ, w) = v(λw) − (γ/2) w²,    v(t) = t (bilinear),    v(t) = log σ(t) (Dirac-GAN)

The Dirac-GAN is a generator of one point λ and a discriminator x ↦ wx, of data that is all 0; its
decay is a gradient penalty. With c = v′(0), simultaneous steps of size η leave the only
equilibrium, (0, 0), where γ < ηc², by a factor that tends to

    √(1 − ηγ + η²c²)    simultaneous,    √(1 − ηγ)    alternating

a step, the root of the determinant of a step. The best response is w* ≈ cλ/γ, and a leader who
knows it goes on by a factor of |1 − ηc²/γ|, below 1 where γ > ηc²/2.

Mescheder, Geiger and Nowozin (2018), "Which Training Methods for GANs do actually Converge?",
arXiv:1801.04406.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments._duopoly import UNANSWERED
from shohypernet.problem import Problem

SIMULTANEOUS, ALTERNATING, UNROLLED, LEARNED = (
    "simultaneous steps",
    "alternating steps",
    "unrolled steps",
    "learned response",
)


class Game(NamedTuple):
    """A game.

    Attributes:
      value: v, of the product of both numbers.
      slope: c = v′(0).
    """

    value: Callable[[jax.Array], jax.Array]
    slope: float


GAMES = {"bilinear": Game(lambda t: t, 1.0), "Dirac-GAN": Game(jax.nn.log_sigmoid, 0.5)}


def decay(game: Game, config: Any) -> float:
    """γ, a share of ηc² at which simultaneous steps diverge and a leader converges."""
    return config.decay * config.step_size * game.slope**2


def growth(game: Game, config: Any) -> float:
    """The factor of a simultaneous step close to the equilibrium."""
    step = config.step_size
    return float(np.sqrt(1 - step * decay(game, config) + (step * game.slope) ** 2))


def build(game: Game, config: Any) -> Problem:
    """The problem, whose batches are never read."""

    def value(params: jax.Array, hyperparams: jax.Array) -> jax.Array:
        return game.value(hyperparams * params) - decay(game, config) / 2 * params**2

    return Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=lambda params, hyperparams, batch, key: -value(params, hyperparams),
        valid_loss=lambda params, hyperparams, batch: value(params, hyperparams),
        space=shn.hyperparameters.real(),
    )


def methods(problem: Problem, config: Any) -> dict[str, tuple[shn.HyperOptimizer, int]]:
    """Ways of playing, each with the follower's steps in a round."""
    step = optax.sgd(config.step_size)
    both: dict[str, Any] = {"hypernet_optimizer": step, "hyper_optimizer": step}
    updates = config.game_rounds * config.game_inner_steps
    schedule = optax.cosine_decay_schedule(config.hypernet_learning_rate, updates)
    learned = shn.local_response(
        problem,
        shn.hypernets.linear(init_scale=shn.hypernets.PAPER_INIT_SCALE),
        hypernet_optimizer=optax.adam(schedule),
        hyper_optimizer=step,
        sampler=shn.samplers.local_gaussian(config.game_sampling_scale),
    )
    unrolled = shn.truncated(
        problem, optimizer=step, hyper_optimizer=step, backward_steps=config.game_unrolled_steps
    )
    return {
        SIMULTANEOUS: (shn.simultaneous(problem, UNANSWERED, **both), 1),
        ALTERNATING: (alternating(problem, UNANSWERED, **both), 1),
        UNROLLED: (unrolled, config.game_unrolled_steps),
        LEARNED: (learned, config.game_inner_steps),
    }


def alternating(problem: Problem, hypernet: Any, **optimizers: Any) -> shn.HyperOptimizer:
    """Steps by turns: Algorithm 3 whose λ isn't sampled, and whose hypernet answers to none."""
    return shn.local_response(
        problem, hypernet, sampler=lambda key, hyperparams: hyperparams, samples=1, **optimizers
    )
