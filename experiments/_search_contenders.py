"""The contenders of `search_baselines`: hyper-training and black-box searches, at one budget."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

import shohypernet as shn
from experiments import _hyper_training
from experiments._grouped_decays import EVERY_WEIGHT
from shohypernet import search
from shohypernet.batches import Data
from shohypernet.datasets import CLASSES
from shohypernet.problem import Problem
from shohypernet.search import Search

OURS, PAPER = "centered hyper-training", "hyper-training"


class Curve(NamedTuple):
    """The best validation loss so far and the test loss of the same weights, NaN before the first.

    Attributes:
      evaluations: gradient evaluations spent, shape (points,).
      seconds: by when, those of all seeds together, shape (points,).
      valid_loss: shape (seeds, points).
      test_loss: likewise.
    """

    evaluations: np.ndarray
    seconds: np.ndarray
    valid_loss: np.ndarray
    test_loss: np.ndarray


def methods(
    problem: Problem, data: Data, count: int, config: Any
) -> dict[str, Callable[[], Curve]]:
    """All that can tune so many decays, by name."""
    return {
        OURS: functools.partial(hyper_train_centered, problem, data, count, config),
        PAPER: functools.partial(hyper_train, problem, data, count, config),
    } | {
        name: functools.partial(by_search, problem, data, count, config, method)
        for name, method in searches(count, config).items()
    }


def searches(count: int, config: Any) -> dict[str, Search]:
    """The black-box searches that can tune so many decays, by name."""
    steps = config.training_steps
    unit = steps // config.resource
    found = {
        "random search": search.random_search(steps=steps, population=20),
        "successive halving": search.successive_halving(
            population=config.resource, steps=unit, eta=config.eta
        ),
        "Hyperband": search.hyperband(resource=config.resource, unit_steps=unit, eta=config.eta),
    }
    points = max(2, int((config.budget // steps) ** (1 / count) + 1e-9))
    if count <= CLASSES:
        found["grid search"] = search.grid_search(points=points, steps=steps)
        found["freeze-thaw"] = search.freeze_thaw(
            unit_steps=steps // config.units, units=config.units
        )
    if count < EVERY_WEIGHT:
        found["TPE"] = search.tpe(steps=steps)
        found["Bayesian optimization"] = search.bayesian(steps=steps)
    return found


def by_search(problem: Problem, data: Data, count: int, config: Any, method: Search) -> Curve:
    """A black-box search."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.training_steps)
    measured = search.run(
        problem,
        method,
        data,
        jnp.ones(count),
        optimizer=optax.adam(schedule),
        budget=config.budget,
        seeds=config.seeds,
        batch_size=config.batch_size,
    ).measured
    grid = np.linspace(0, config.budget, config.points + 1)[1:]
    rows = [np.searchsorted(m.gradient_evaluations, grid, side="right") - 1 for m in measured]
    best = [search.best_so_far(each) for each in measured]
    valid, test = (
        np.stack(
            [
                np.where(row < 0, np.nan, losses[split][row])
                for row, losses in zip(rows, best, strict=True)
            ]
        )
        for split in (0, 1)
    )
    seconds = [
        np.where(row < 0, 0.0, each.seconds[row]) for row, each in zip(rows, measured, strict=True)
    ]
    return Curve(grid, np.max(seconds, axis=0), valid, test)


def hyper_train_centered(problem: Problem, data: Data, count: int, config: Any) -> Curve:
    """Algorithm 3 with the Kronecker hypernet."""
    inner_steps = config.centered.inner_steps
    rounds = _hyper_training.rounds_within(
        config.budget,
        problem,
        _hyper_training.kronecker(config.centered),
        inner_steps,
        config.batch_size,
    )
    settings = ConfigDict(config.centered.to_dict() | {"rounds": rounds})
    method = _hyper_training.tuned(problem, settings)
    return _follow(problem, method, data, count, config, rounds, inner_steps)


def hyper_train(problem: Problem, data: Data, count: int, config: Any) -> Curve:
    """Algorithm 3 with the paper's hypernets."""
    scale, learning_rate = shn.hypernets.PAPER_INIT_SCALE, config.hypernet_learning_rate
    hypernet = shn.hypernets.linear(init_scale=scale)
    scale = config.sampling_scale
    if count == EVERY_WEIGHT:
        hypernet = shn.hypernets.factorized(config.rank, init_scale=scale)
        learning_rate = config.factorized_learning_rate
        scale = config.factorized_sampling_scale
    rounds = config.budget // (config.samples * config.inner_steps + 1)
    schedule = optax.exponential_decay(
        learning_rate, rounds * config.inner_steps, config.hypernet_decay
    )
    method = shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(schedule),
        hyper_optimizer=optax.adam(config.hyper_learning_rate),
        sampler=shn.samplers.local_gaussian(scale),
        samples=config.samples,
    )
    return _follow(problem, method, data, count, config, rounds, config.inner_steps)


def _follow(
    problem: Problem,
    method: shn.HyperOptimizer,
    data: Data,
    count: int,
    config: Any,
    rounds: int,
    inner_steps: int,
) -> Curve:
    """Hyper-training from the middle of the space, in rounds that the points divide."""
    rounds -= rounds % config.points
    history = shn.fit(
        problem,
        method,
        data,
        jnp.full(count, np.exp((config.low + config.high) / 2), jnp.float32),
        steps=rounds,
        seeds=config.seeds,
        inner_steps=inner_steps,
        train_batch_size=config.batch_size,
        valid_batch_size=config.batch_size,
        eval_every=rounds // config.points,
    ).history
    # As for the searches, the best so far by validation, and the test loss there.
    leads = history.valid_loss <= np.minimum.accumulate(history.valid_loss)
    leader = np.maximum.accumulate(np.where(leads, np.arange(len(leads))[:, None], 0))[1:]
    valid, test = (
        np.take_along_axis(losses, leader, axis=0).T
        for losses in (history.valid_loss, history.test_loss)
    )
    return Curve(history.gradient_evaluations[1:, 0], history.seconds[1:], valid, test)
