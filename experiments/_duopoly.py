"""A duopoly as a bilevel problem, and the methods that play it.

Two firms sell the quantities λ and w of one good at the price a − b(λ + w), and a unit costs c.

    L_train(w, λ) = −w (a − b(λ + w) − c),    L_valid(w, λ) = −λ (a − b(λ + w) − c)

The follower's best response is w*(λ) = (a − c − bλ)/(2b). A leader who knows it sells
(a − c)/(2b), and the follower (a − c)/(4b) (Stackelberg); firms that know no more than each other's
quantity sell (a − c)/(3b) each (Cournot, and Nash).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem

GRADIENT_PLAY = "gradient play"
UNANSWERED = Hypernet(
    lambda key, params, hyperparams: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params),
    lambda hypernet_params, hyperparams: hypernet_params,
)
"""w_φ(λ) = φ: a follower who answers to no λ. With it Algorithm 4 is gradient play."""


def build(config: Any) -> Problem:
    """The problem; its batches are never read, for nothing here is sampled."""

    def price(params: jax.Array, hyperparams: jax.Array) -> jax.Array:
        return config.intercept - config.slope * (params + hyperparams)

    return Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=lambda params, hyperparams, batch, key: (
            -params * (price(params, hyperparams) - config.cost)
        ),
        valid_loss=lambda params, hyperparams, batch: (
            -hyperparams * (price(params, hyperparams) - config.cost)
        ),
        space=shn.hyperparameters.real(),
    )


def stackelberg(config: Any) -> tuple[float, float]:
    """Quantities of a leader who knows how the follower will respond, and of that follower."""
    margin = (config.intercept - config.cost) / config.slope
    return margin / 2, margin / 4


def nash(config: Any) -> tuple[float, float]:
    """Quantities that are each a best response to the other."""
    margin = (config.intercept - config.cost) / config.slope
    return margin / 3, margin / 3


def methods(problem: Problem, config: Any) -> dict[str, shn.HyperOptimizer]:
    """All that play as the leader, by name; the last one is gradient play."""
    linear = shn.hypernets.linear(init_scale=shn.hypernets.PAPER_INIT_SCALE)
    learned: dict[str, Any] = {
        "hypernet_optimizer": optax.adam(config.hypernet_learning_rate),
        "hyper_optimizer": optax.sgd(config.hyper_learning_rate),
    }
    trained: dict[str, Any] = {
        "optimizer": optax.sgd(config.learning_rate),
        "hyper_optimizer": optax.sgd(config.hyper_learning_rate),
    }
    nearby = shn.samplers.local_gaussian(config.sampling_scale)
    monopoly = (config.intercept - config.cost) / config.slope
    slope = shn.jacobians.linearized(linear, optimizer=optax.adam(config.hypernet_learning_rate))
    return {
        "local_response": shn.local_response(problem, linear, sampler=nearby, **learned),
        "global_response": shn.global_response(
            problem,
            linear,
            sampler=shn.samplers.uniform(0.0, monopoly),
            hypernet_rounds=config.hypernet_rounds,
            **learned,
        ),
        "centered_response": shn.centered_response(problem, slope, **trained),
        "implicit": shn.implicit(
            problem, solver=shn.linear_solvers.conjugate_gradient(1), **trained
        ),
        "unrolled": shn.unrolled(problem, **trained),
        GRADIENT_PLAY: shn.simultaneous(problem, UNANSWERED, **learned),
    }


def paths(
    method: shn.HyperOptimizer, start: Any, seeds: tuple[int, ...], rounds: int, inner_steps: int
) -> tuple[Any, Any]:
    """λ and w after each round, for each seed.

    A method is pure functions, so that a scan has all that `fit` leaves out of its history.

    Args:
      method: of a problem that reads no batch.
      start: λ, unconstrained.
      seeds: of the first state, and of what is sampled.
      rounds: R.
      inner_steps: of a round.

    Returns:
      Two trees with leading axes (R + 1, S).
    """
    nothing = jnp.zeros((inner_steps, 1)), jnp.zeros(1)

    def shown(state: Any) -> tuple[Any, Any]:
        return state.hyperparams, method.weights(state)

    def round_of(state: Any, key: jax.Array) -> tuple[Any, tuple[Any, Any]]:
        state, _ = method.step(key, state, *nothing)
        return state, shown(state)

    def played(seed: jax.Array) -> tuple[Any, Any]:
        key_first, key_rounds = jax.random.split(jax.random.key(seed))
        first = method.init(key_first, start)
        _, rest = jax.lax.scan(round_of, first, jax.random.split(key_rounds, rounds))
        return jax.tree.map(
            lambda one, more: jnp.concatenate([one[None], more]), shown(first), rest
        )

    return jax.tree.map(np.asarray, _compiled(played)(jnp.asarray(seeds)))


def _compiled(played: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """All seeds in one call, with the seeds' axis behind that of the rounds."""
    return jax.jit(jax.vmap(played, out_axes=1))
