"""The worlds of `every_method` that have data: prediction, penalties, distillation."""

import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from ml_collections import ConfigDict

import shohypernet as shn
from experiments import _nonsmooth, elastic_net
from experiments import _strategic_data as strategic
from experiments import _strategic_exact as strategic_exact
from experiments import _strategic_learning as learning
from experiments._every_method_worlds import World, alike, heavy_ball
from shohypernet import proximal, ridge
from shohypernet.batches import Data, Examples
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams


def prediction(config: Any) -> World:
    """A learner of diabetes whose patients move their data (`_strategic_learning`)."""
    given = config.prediction
    rows, _ = strategic.load(ConfigDict({"data": "diabetes"}))
    rows = rows._replace(inputs=rows.inputs[:, list(given.columns)]).at(np.arange(given.rows))
    exact = strategic_exact.solve(given.cost, rows) / np.sqrt(given.cost)
    problem = learning.by_policy(jnp.float32(given.cost), rows)
    length = shn.hyperparameters.log(prior=tuple(given.lengths))

    def loss(hyperparams: Hyperparams) -> float:
        given_direction = np.asarray(hyperparams["direction"], np.float64)
        unit = given_direction / np.linalg.norm(given_direction)
        weights = float(hyperparams["length"]) * unit * np.sqrt(given.cost)
        return strategic_exact.error(weights, given.cost, rows)

    return World(
        problem._replace(space=learning.SPACE | {"length": length}),
        alike(rows),
        learning.start(rows.inputs.shape[1]),
        {"length": np.linalg.norm(exact), "direction": exact / np.linalg.norm(exact)},
        loss,
        given.step_size,
        heavy_ball(given.step_size),
        config.steps,
        (2, 2),
    )


def net(config: Any) -> World:
    """Two decays of an elastic net (`_nonsmooth`), by scikit-learn's weights."""
    given = config.net
    weights = np.repeat([1.0, 0.0], [given.active, given.features - given.active])
    data = _nonsmooth.draw(weights, given.sizes, given, given.seed)
    problem = elastic_net.build(given)

    def loss(hyperparams: Hyperparams) -> float:
        found = elastic_net.solve(data.train, hyperparams)
        return float(_nonsmooth.mean_squared_error(found, data.valid))

    best = _searched(loss, lambda pair: {"l1": pair[0], "l2": pair[1]}, given)
    step = 1 / _nonsmooth.curvature(data.train.inputs)
    on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), data)
    return World(
        problem,
        on_device._replace(test=None),
        given.start.to_dict(),
        best,
        loss,
        step,
        proximal.gradient(proximal.elastic_net(), step),
        config.steps,
        (2, 2),
    )


def regression(config: Any) -> World:
    """Ridge regression of two targets, with a decay for each (`shohypernet.ridge`)."""
    given = config.regression
    rng = np.random.default_rng(given.seed)
    signal = np.asarray(given.sizes) * rng.normal(size=(given.features, len(given.sizes)))
    inputs: Any = rng.normal(size=(2 * given.examples, given.features))
    targets = inputs @ signal + given.noise * rng.normal(size=(len(inputs), len(given.sizes)))
    halves = [Examples(inputs[at::2], targets[at::2]) for at in range(2)]
    exact = ridge.ridge(Data(halves[0], halves[1], halves[1]))
    on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), halves)

    def penalty(params: Any, decays: jax.Array) -> jax.Array:
        return shn.penalties.weight_decay(params, decays) / len(given.sizes)

    def decays(logs: np.ndarray) -> np.ndarray:
        """A decay for each weight, and one for the bias that leaves none."""
        return np.concatenate([np.broadcast_to(logs, signal.shape), np.full((1, len(logs)), 30.0)])

    def loss(hyperparams: Hyperparams) -> float:
        each = decays(np.log(np.asarray(hyperparams, np.float64)))
        return ridge.losses(exact, ridge.best_response(exact, each)).valid

    problem = shn.supervised(
        nn.Dense(len(given.sizes), use_bias=False),
        on_device[0].inputs[:1],
        shn.losses.mean_squared_error,
        penalty,
        space=shn.hyperparameters.log(given.low, given.high),
    )
    return World(
        problem,
        Data(on_device[0], on_device[1], None),
        jnp.full(len(given.sizes), given.start),
        _searched(loss, lambda pair: pair, given),
        loss,
        given.step_size,
        heavy_ball(given.step_size),
        config.steps,
        (2, 2),
    )


def _searched(
    loss: Callable[[Hyperparams], float], form: Callable[[np.ndarray], Hyperparams], given: Any
) -> Hyperparams:
    """The best of two decays between bounds: of a grid, polished by Nelder and Mead's search.

    Args:
      loss: of λ in natural units.
      form: λ from two numbers.
      given: with `low` and `high`, the bounds, and `grid`, points of each side.
    """

    def objective(logs: Any) -> float:
        return loss(form(np.exp(np.asarray(logs))))

    ends = np.log(given.low), np.log(given.high)
    begun = min(itertools.product(np.linspace(*ends, given.grid), repeat=2), key=objective)
    simplex = np.asarray(begun) + (ends[1] - ends[0]) / given.grid * np.eye(3, 2)
    found = scipy.optimize.minimize(
        objective,
        begun,
        method="Nelder-Mead",
        bounds=[ends] * 2,
        options={"xatol": 1e-7, "fatol": 1e-13, "initial_simplex": simplex},
    )
    return form(np.exp(found.x))


def distillation(config: Any) -> World:
    """Two rows of data that a linear model is trained on in the place of many.

    Least squares on the many has the least loss that any weights have, and so λ* is any two rows
    whose ridge regression gives those weights.
    """
    given = config.distillation
    rng = np.random.default_rng(given.seed)
    signal = np.asarray(given.weights)
    inputs: Any = rng.normal(size=(given.examples, len(signal)))
    targets = inputs @ signal + given.noise * rng.normal(size=given.examples)
    labels = np.array([1.0, -1.0])
    model = nn.Dense(1, use_bias=False)

    def errors(params: Any, points: jax.Array, wanted: jax.Array) -> jax.Array:
        made: Any = model.apply({"params": params}, points)
        return jnp.mean((made[:, 0] - wanted) ** 2)

    def train_loss(params: Any, points: jax.Array, batch: Any, key: jax.Array) -> jax.Array:
        return errors(params, points, jnp.asarray(labels, jnp.float32)) + given.decay * jnp.sum(
            params["kernel"] ** 2
        )

    def weights(points: np.ndarray) -> np.ndarray:
        gram = points.T @ points / 2 + given.decay * np.eye(len(signal))
        return np.linalg.solve(gram, points.T @ labels / 2)

    def loss(hyperparams: Hyperparams) -> float:
        found = weights(np.asarray(hyperparams, np.float64))
        return float(np.mean((inputs @ found - targets) ** 2))

    problem = Problem(
        init=lambda key: model.init(key, jnp.zeros((1, len(signal))))["params"],
        train_loss=train_loss,
        valid_loss=lambda params, points, batch: errors(params, *batch),
        space=shn.hyperparameters.real(),
    )
    return World(
        problem,
        alike(Examples(inputs, targets)),
        jnp.asarray(given.start_scale * rng.normal(size=(2, len(signal))), jnp.float32),
        _rows_of(np.linalg.lstsq(inputs, targets)[0], given.decay),
        loss,
        given.step_size,
        heavy_ball(given.step_size),
        config.steps,
        (2, 2),
    )


def _rows_of(weights: np.ndarray, decay: float) -> np.ndarray:
    """Rows ±x of labels ±1 whose ridge regression has some weights: x = s w with s²‖w‖² + d = s."""
    square = float(weights @ weights)
    s = (1 + np.sqrt(1 - 4 * decay * square)) / (2 * square)
    return np.stack([s * weights, -s * weights])
