"""The contenders of `growth`: ways to train a dense layer with one decay per weight."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from shohypernet._internal import random
from shohypernet.batches import Data, Examples
from shohypernet.models import MLP
from shohypernet.problem import Problem, param_shapes

EXAMPLES = 100  # of the training and of the validation set
RANK = 10
SAMPLES = 2
REFRESH_EVERY = 50  # rounds, the default of `kronecker` after its first rounds
SAMPLING_SCALE = 0.003

PLAIN, FACTORIZED, ELEMENTWISE, KRONECKER = (
    "plain training",
    "factorized",
    "elementwise",
    "centered, Kronecker",
)


class GrowthSubject(NamedTuple):
    """A model with one decay per weight; its hyperparams and data are shapes alone."""

    problem: Problem
    hyperparams: Any
    data: Data

    @property
    def number(self) -> int:
        """Number of hyperparameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.hyperparams))


class GrowthContender(NamedTuple):
    """A way to train, step by step.

    Attributes:
      init: `init(key, hyperparams) -> state`, from λ unconstrained.
      step: `step(key, state, data) -> state`.
      refreshing: `refreshing(state) -> state`, a state whose every step updates the Kronecker
        factors, which are otherwise due once in REFRESH_EVERY steps; None where there are none.
    """

    init: Callable[[jax.Array, Any], Any]
    step: Callable[[jax.Array, Any, Data], Any]
    refreshing: Callable[[Any], Any] | None = None


def sides(count: int) -> tuple[int, int]:
    """Inputs d and outputs c of a dense layer of (d + 1)·c weights, as nearly square as can be."""
    outputs = max(c for c in range(1, math.isqrt(count) + 1) if count % c == 0)
    return count // outputs - 1, outputs


def subject(inputs: int, outputs: int) -> GrowthSubject:
    """One dense layer with its bias."""
    widths = inputs, outputs
    shapes: Any = [jax.ShapeDtypeStruct((EXAMPLES, width), jnp.float32) for width in widths]
    examples = Examples(*shapes)
    problem = shn.supervised(
        MLP(outputs),
        jnp.zeros((1, inputs)),
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    return GrowthSubject(problem, param_shapes(problem), Data(examples, examples, examples))


def random_data(subject: GrowthSubject) -> Data:
    """Standard normal inputs and targets."""
    return random.random_like(random.key(2), subject.data)


def contenders(problem: Problem) -> dict[str, GrowthContender]:
    """All of them, plain training first."""
    return {PLAIN: plain(problem), **sampling(problem, SAMPLES), KRONECKER: centered(problem)}


def plain(problem: Problem) -> GrowthContender:
    """Training at fixed λ, by Adam."""
    optimizer = _adam()

    def init(key: jax.Array, hyperparams: Any) -> Any:
        params = problem.init(key)
        decays = shn.hyperparameters.decode(problem.space, hyperparams)
        return decays, params, optimizer.init(params)

    def step(key: jax.Array, state: Any, data: Data) -> Any:
        decays, params, opt_state = state
        gradient = jax.grad(problem.train_loss)(params, decays, data.train, key)
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return decays, optax.apply_updates(params, change), opt_state

    return GrowthContender(init, step)


def sampling(problem: Problem, samples: int) -> dict[str, GrowthContender]:
    """Algorithm 3 with the hypernets that are trained on sampled λ."""
    scale = shn.hypernets.PAPER_INIT_SCALE
    hypernets = {
        FACTORIZED: shn.hypernets.factorized(RANK, init_scale=scale),
        ELEMENTWISE: shn.hypernets.elementwise(init_scale=scale),
    }
    found = {}
    for name, hypernet in hypernets.items():
        method = shn.local_response(
            problem,
            hypernet,
            hypernet_optimizer=_adam(),
            hyper_optimizer=_adam(),
            sampler=shn.samplers.local_gaussian(SAMPLING_SCALE),
            samples=samples,
        )
        found[name] = GrowthContender(method.init, functools.partial(_step, method))
    return found


def centered(problem: Problem) -> GrowthContender:
    """Algorithm 3 with a centered hypernet whose count of rounds stands still.

    A state at a round that is due updates the Kronecker factors in every step, and any other in
    none.
    """
    jacobian = shn.jacobians.kronecker(refresh_every=REFRESH_EVERY)
    method = shn.centered_response(problem, jacobian, optimizer=_adam(), hyper_optimizer=_adam())

    def init(key: jax.Array, hyperparams: Any) -> Any:
        # Copied, since fresh factors share arrays with their bases, which can't be donated twice.
        state = jax.tree.map(jnp.array, method.init(key, hyperparams))
        return _at(jnp.int32(REFRESH_EVERY + 1), state)

    def step(key: jax.Array, state: Any, data: Data) -> Any:
        return _at(state.jacobian_state.rounds, _step(method, key, state, data))

    return GrowthContender(init, step, functools.partial(_at, jnp.int32(REFRESH_EVERY)))


def _at(rounds: jax.Array, state: Any) -> Any:
    return state._replace(jacobian_state=state.jacobian_state._replace(rounds=rounds))


def _step(method: shn.HyperOptimizer, key: jax.Array, state: Any, data: Data) -> Any:
    batches = jax.tree.map(lambda x: x[None], data.train)
    return method.step(key, state, batches, data.valid)[0]


def _adam() -> optax.GradientTransformation:
    return optax.adam(1e-3)
