"""The contenders of `exploration`, at one budget."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optax

import shohypernet as shn
from experiments import _turned_digits
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.hypertraining import optimistic, thompson, variational
from shohypernet.problem import Problem

GLOBAL, LOCAL = "Algorithm 2", "Algorithm 3"
THOMPSON, OPTIMISTIC, MEAN = "Thompson", "optimistic", "by the mean"
BAYESIAN, RANDOM = "Bayesian optimization", "random search"


class Course(NamedTuple):
    """The course of a contender.

    Attributes:
      evaluations: gradient evaluations spent, shape (points,).
      seconds: by when, those of all seeds together, shape (points,).
      valid_loss: of the weights that it has, shape (seeds, points); a search's are the best so far.
      angle: the angle that goes with them, in radians, likewise.
      decay: the decay, likewise.
    """

    evaluations: np.ndarray
    seconds: np.ndarray
    valid_loss: np.ndarray
    angle: np.ndarray
    decay: np.ndarray


def contenders(data: Data, config: Any) -> dict[str, Callable[[], Course]]:
    """All contenders by name."""
    problem = _turned_digits.problem_on(config, hp.real())
    trained = {
        name: functools.partial(_hyper_train, problem, data, config, name)
        for name in (GLOBAL, LOCAL, THOMPSON, OPTIMISTIC, MEAN)
    }
    steps = config.search_steps
    searches = {
        BAYESIAN: shn.search.bayesian(steps=steps),
        RANDOM: shn.search.random_search(steps=steps, population=1),
    }
    return trained | {
        name: functools.partial(_search, data, config, method) for name, method in searches.items()
    }


def cost(name: str, config: Any) -> int:
    """Evaluations of a round of hyper-training, the first phase's of Algorithm 2."""
    updates = config.samples * config.inner_steps
    if name == GLOBAL:
        return updates
    return updates + 1 if name == LOCAL else updates + config.candidates + 3


def rounds(name: str, config: Any) -> int:
    """Rounds that the budget has room for, a multiple of the points of a course."""
    budget, second = config.budget, 0
    if name == GLOBAL:
        second = config.second_phase
        budget -= second
    count = budget // cost(name, config) + second
    return count - count % config.points


def method(problem: Problem, name: str, config: Any) -> HyperOptimizer:
    """A contender that is trained with a hypernet."""
    count = rounds(name, config)
    hypernet = _turned_digits.bayesian(config)
    schedule = optax.cosine_decay_schedule(
        config.hypernet_learning_rate, count * config.inner_steps, 0.1
    )
    settings = {
        "hypernet_optimizer": optax.adam(schedule),
        "hyper_optimizer": optax.adam(config.hyper_learning_rate),
        "samples": config.samples,
    }
    broad, near = _turned_digits.broad(config), _turned_digits.near(config)
    loss = variational(config.examples)
    if name == GLOBAL:
        return shn.global_response(
            problem,
            hypernet,
            sampler=broad,
            hypernet_rounds=count - config.second_phase,
            response_loss=loss,
            **settings,
        )
    if name == LOCAL:
        return shn.local_response(problem, hypernet, sampler=near, response_loss=loss, **settings)
    draws, rule = 1, thompson()
    if name == OPTIMISTIC:
        draws = config.optimistic_draws
        rule = optimistic(draws=draws)
    if name == MEAN:
        posterior = hypernet.posterior
        certain = posterior and posterior._replace(
            draw=lambda key, hypernet_params: hypernet_params
        )
        hypernet = hypernet._replace(posterior=certain)
    return shn.exploring_response(
        problem,
        hypernet,
        candidates=broad,
        sampler=near,
        examples=config.examples,
        choice=rule,
        candidate_count=config.candidates // draws,
        **settings,
    )


def _hyper_train(problem: Problem, data: Data, config: Any, name: str) -> Course:
    """Hyper-training from the start that is near a wrong angle."""
    count = rounds(name, config)
    decay = np.exp((config.decay_low + config.decay_high) / 2)
    history = shn.fit(
        problem,
        method(problem, name, config),
        data,
        {"angle": float(np.radians(config.start)), "decay": float(decay)},
        steps=count,
        seeds=config.seeds,
        inner_steps=config.inner_steps,
        train_batch_size=config.batch_size,
        valid_batch_size=config.batch_size,
        eval_every=count // config.points,
    ).history
    return Course(
        history.gradient_evaluations[:, 0],
        history.seconds,
        history.valid_loss.T,
        history.hyperparams["angle"].T,
        history.hyperparams["decay"].T,
    )


def _search(data: Data, config: Any, method: shn.search.Search) -> Course:
    """A black-box search over the same λ."""
    problem = _turned_digits.problem_on(config, hp.bounded(-np.pi, np.pi))
    schedule = optax.cosine_decay_schedule(config.train_learning_rate, config.search_steps)
    measured = shn.search.run(
        problem,
        method,
        data,
        {"angle": 0.0, "decay": 1.0},
        optimizer=optax.adam(schedule),
        budget=config.budget,
        seeds=config.seeds,
        batch_size=config.batch_size,
    ).measured
    best = [
        np.maximum.accumulate(
            np.where(
                each.valid_loss <= np.fmin.accumulate(each.valid_loss),
                np.arange(len(each.valid_loss)),
                0,
            )
        )
        for each in measured
    ]

    def followed(values: list[np.ndarray]) -> np.ndarray:
        return np.stack([value[at] for value, at in zip(values, best, strict=True)])

    return Course(
        measured[0].gradient_evaluations,
        np.max([each.seconds for each in measured], axis=0),
        followed([each.valid_loss for each in measured]),
        followed([each.hyperparams["angle"] for each in measured]),
        followed([each.hyperparams["decay"] for each in measured]),
    )
