"""What grows: a dense layer with a decay for each weight, and the ways to tune them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from shohypernet.batches import Data, Examples
from shohypernet.models import MLP
from shohypernet.problem import Problem

EXAMPLES = 100  # of the training and of the validation set
RANK = 10
SAMPLES = 2
LOOK_EVERY = 50  # rounds, as is kronecker's habit once it is under way
SAMPLING_SCALE = 0.003

PLAIN, FACTORISED, ELEMENTWISE, KRONECKER = (
    "plain training",
    "factorized",
    "elementwise",
    "centered, Kronecker",
)


class Subject(NamedTuple):
    """A model with a decay for each weight; hyperparams and data are shapes alone."""

    problem: Problem
    hyperparams: Any
    data: Data

    @property
    def number(self) -> int:
        """Of hyperparameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.hyperparams))


class Contender(NamedTuple):
    """Something that goes on in steps.

    Attributes:
      init: `init(key, hyperparams) -> state`.
      step: `step(key, state, data) -> state`.
      looking: `looking(state) -> state`, from where every step takes a look at the curvature that
        is otherwise due once in LOOK_EVERY steps; None where there are no looks.
    """

    init: Callable[[jax.Array, Any], Any]
    step: Callable[[jax.Array, Any, Data], Any]
    looking: Callable[[Any], Any] | None = None


def sides(count: int) -> tuple[int, int]:
    """Inputs d and outputs c of a dense layer of (d + 1)·c weights, as nearly square as can be."""
    outputs = max(c for c in range(1, math.isqrt(count) + 1) if count % c == 0)
    return count // outputs - 1, outputs


def subject(inputs: int, outputs: int) -> Subject:
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
    like_weights = jax.eval_shape(problem.init, jax.random.key(0))
    return Subject(problem, like_weights, Data(examples, examples, examples))


def random_data(taken: Subject) -> Data:
    """Standard normal inputs and targets."""
    made: Any = optax.tree.random_like(jax.random.key(2), taken.data)
    return made


def contenders(problem: Problem) -> dict[str, Contender]:
    """All of them, plain training first."""
    return {PLAIN: plain(problem), **sampling(problem, SAMPLES), KRONECKER: centered(problem)}


def plain(problem: Problem) -> Contender:
    """Training at fixed λ."""
    optimizer = _adam()

    def init(key: jax.Array, hyperparams: Any) -> Any:
        params = problem.init(key)
        return hyperparams, params, optimizer.init(params)

    def step(key: jax.Array, state: Any, data: Data) -> Any:
        hyperparams, params, opt_state = state
        gradient = jax.grad(problem.train_loss)(params, hyperparams, data.train, key)
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return hyperparams, optax.apply_updates(params, change), opt_state

    return Contender(init, step)


def sampling(problem: Problem, samples: int) -> dict[str, Contender]:
    """Algorithm 3 with the hypernets that learn from sampled λ."""
    weights = jax.eval_shape(problem.init, jax.random.key(0))
    hypernets = {
        FACTORISED: shn.hypernets.factorized(weights, RANK),
        ELEMENTWISE: shn.hypernets.elementwise(weights),
    }
    found = {}
    for name, hypernet in hypernets.items():
        method = shn.local_response(
            problem,
            hypernet,
            hypernet_optimizer=_adam(),
            hyper_optimizer=_adam(),
            sampler=shn.hyperparameters.local_gaussian(SAMPLING_SCALE),
            samples=samples,
        )
        found[name] = Contender(method.init, _step(method))
    return found


def centered(problem: Problem) -> Contender:
    """Algorithm 3 with a centered hypernet whose rounds are not counted on.

    So a state that has a look ahead of it has one in every step, and any other has none.
    """
    jacobian = shn.jacobians.kronecker(problem, refresh_every=LOOK_EVERY)
    method = shn.centered_response(problem, jacobian, optimizer=_adam(), hyper_optimizer=_adam())
    advance = _step(method)

    def at(round: Any, state: Any) -> Any:
        jacobian_params = state.jacobian_params._replace(rounds=round)
        return state._replace(jacobian_params=jacobian_params)

    def init(key: jax.Array, hyperparams: Any) -> Any:
        return at(jnp.int32(LOOK_EVERY + 1), method.init(key, hyperparams))

    def step(key: jax.Array, state: Any, data: Data) -> Any:
        return at(state.jacobian_params.rounds, advance(key, state, data))

    return Contender(init, step, lambda state: at(jnp.int32(LOOK_EVERY), state))


def _step(method: shn.HyperOptimizer) -> Callable[[jax.Array, Any, Data], Any]:
    def step(key: jax.Array, state: Any, data: Data) -> Any:
        batches = jax.tree.map(lambda x: x[None], data.train)
        return method.step(key, state, batches, data.valid)[0]

    return step


def _adam() -> optax.GradientTransformation:
    return optax.adam(1e-3)
