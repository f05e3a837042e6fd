"""The Stackelberg prediction game as a bilevel problem, and the methods that play it.

The learner's λ is w = √γ · length · direction/‖direction‖. The follower's "weights" are the policy
of all owners of data, an affine function of their features and of what they want:

    x* = x + u/√γ,  u = policy(x, z),    L_train(policy, λ) = mean of (wᵀx* − z)² + ‖u‖²
                                         L_valid(policy, λ) = mean of (wᵀx* − y)²

The best response is such a function, u = √γ w (z − wᵀx)/(γ + ‖w‖²), the same for all rows. So how
many numbers are learned doesn't depend on the number of rows, minibatches will do, and rows that
nobody has seen have a response as well. In the units of u the curvature, between 1 and 1 + ‖w‖²/γ,
is the same for all γ.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments._strategic_data import Rows
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams

SPACE = {"length": shn.hyperparameters.log(), "direction": shn.hyperparameters.real()}
CENTERED, BY_ROW = "centered", "rows"
LABELS = {
    CENTERED: "centered, Kronecker",
    "local": "local_response, linear",
    "implicit": "implicit, policy",
    BY_ROW: "implicit, all rows' data",
}


def start(features: int) -> Hyperparams:
    """λ in natural units: all features alike, at length 1."""
    return {"length": jnp.float32(1), "direction": jnp.full(features, features**-0.5, jnp.float32)}


def weights(hyperparams: Hyperparams) -> jax.Array:
    """w/√γ."""
    direction = hyperparams["direction"]
    return hyperparams["length"] * direction / jnp.linalg.norm(direction)


def by_policy(cost: jax.Array, rows: Rows) -> Problem:
    """The problem whose weights are a policy; batches are `Rows`.

    Args:
      cost: γ.
      rows: for the mean and the scale of what the policy reads.
    """
    seen = np.column_stack([rows.inputs[:, :-1], rows.wanted])
    mean, scale = (jnp.float32(each)[None] for each in (seen.mean(0), seen.std(0)))
    policy = nn.Dense(rows.inputs.shape[1], kernel_init=nn.initializers.zeros)

    def efforts(params: Any, batch: Rows) -> Any:
        reads = jnp.concatenate([batch.inputs[:, :-1], batch.wanted[:, None]], axis=1)
        return policy.apply({"params": params}, (reads - mean) / scale)

    def init(key: jax.Array) -> Any:
        return policy.init(key, jnp.zeros_like(mean))["params"]

    return _problem(init, efforts, cost)


def by_row(cost: jax.Array, shape: tuple[int, ...]) -> Problem:
    """The problem whose weights are the moves of all rows; its batches are all rows."""
    return _problem(lambda key: jnp.zeros(shape), lambda params, batch: params, cost)


def _problem(init: Any, efforts: Any, cost: jax.Array) -> Problem:
    def predicted(params: Any, hyperparams: Any, batch: Rows) -> tuple[jax.Array, jax.Array]:
        direction, moves = weights(hyperparams), efforts(params, batch)
        return (jnp.sqrt(cost) * batch.inputs + moves) @ direction, moves

    def train_loss(params: Any, hyperparams: Any, batch: Rows, key: jax.Array) -> jax.Array:
        predictions, moves = predicted(params, hyperparams, batch)
        return jnp.mean((predictions - batch.wanted) ** 2 + jnp.sum(moves**2, axis=1))

    def valid_loss(params: Any, hyperparams: Any, batch: Rows) -> jax.Array:
        return jnp.mean((predicted(params, hyperparams, batch)[0] - batch.targets) ** 2)

    return Problem(init, train_loss, valid_loss, SPACE)


def method(name: str, problem: Problem, config: Any) -> shn.HyperOptimizer:
    """The method of a name."""
    rounds, updates = config.rounds, config.rounds * config.inner_steps
    follower = optax.adam(optax.cosine_decay_schedule(config.learning_rate, updates))
    # Slow at first: the follower has to come near its response before anyone can lead it.
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.hyper_learning_rate, rounds // 10, rounds
    )
    leader = optax.adam(schedule)
    match name:
        case "centered":
            return shn.centered_response(
                problem,
                shn.jacobians.kronecker(refresh_every=1),
                optimizer=follower,
                hyper_optimizer=leader,
            )
        case "local":
            return shn.local_response(
                problem,
                shn.hypernets.linear(init_scale=0.0),
                hypernet_optimizer=follower,
                hyper_optimizer=leader,
                sampler=shn.samplers.local_gaussian(config.sampling_scale),
                samples=config.samples,
            )
    # A row's curvature has two distinct values, so that for its data 2 products are exact.
    products = 2 if name == BY_ROW else config.products
    solver = shn.linear_solvers.conjugate_gradient(products)
    return shn.implicit(problem, optimizer=follower, hyper_optimizer=leader, solver=solver)


def learned(
    name: str, rows: Rows, trains: np.ndarray, costs: tuple[float, ...], config: Any
) -> np.ndarray:
    """Weights w of every cost and fold, learned in one compiled call.

    Args:
      name: of the method, one of `LABELS`.
      rows: all rows.
      trains: indices of each fold's training rows, shape (folds, rows of one).
      costs: γ.
      config: of the experiment.

    Returns:
      Weights, float64, shape (costs, folds, d).
    """
    on_device = Rows(*(jnp.asarray(part, jnp.float32) for part in rows))
    began = shn.hyperparameters.encode(SPACE, start(rows.inputs.shape[1]))

    def one(cost: jax.Array, train: jax.Array, key: jax.Array) -> jax.Array:
        shape = (train.shape[0], rows.inputs.shape[1])
        problem = by_row(cost, shape) if name == BY_ROW else by_policy(cost, rows)
        size = None if name == BY_ROW else config.batch_size
        return _run(method(name, problem, config), on_device, began, train, size, key, config)

    keys = jax.random.split(jax.random.key(0), len(trains))
    each = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))
    found = jax.jit(each)(jnp.asarray(costs, jnp.float32), jnp.asarray(trains), keys)
    return np.sqrt(np.asarray(costs))[:, None, None] * np.asarray(found, np.float64)


def _run(
    played: shn.HyperOptimizer,
    rows: Rows,
    began: Hyperparams,
    train: jax.Array,
    size: int | None,
    key: jax.Array,
    config: Any,
) -> jax.Array:
    """w/√γ after all rounds on one fold, with minibatches of a size, or all of its rows."""

    def batch(key: jax.Array, *leading: int) -> Rows:
        if size is None:
            indices = jnp.broadcast_to(train, (*leading, *train.shape))
        else:
            indices = jax.random.choice(key, train, (*leading, size))
        return Rows(*(part[indices] for part in rows))

    def round_of(state: Any, key: jax.Array) -> tuple[Any, None]:
        key_train, key_valid, key_step = jax.random.split(key, 3)
        train_batches = batch(key_train, config.inner_steps)
        return played.step(key_step, state, train_batches, batch(key_valid))[0], None

    key_start, key_rounds = jax.random.split(key)
    state = played.init(key_start, began)
    state, _ = jax.lax.scan(round_of, state, jax.random.split(key_rounds, config.rounds))
    return weights(shn.hyperparameters.decode(SPACE, state.hyperparams))
