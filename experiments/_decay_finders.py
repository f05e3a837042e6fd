"""Decays by everybody who looks for them in `does_it_pay`: searches, and hyper-training."""

import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _decay_problem, _hyper_training
from shohypernet import search
from shohypernet.batches import Data, Examples
from shohypernet.problem import Problem, param_shapes

DEFAULT, OURS, FOLDED = "set unseen", "hyper-training", "hyper-training, folds"


class Found(NamedTuple):
    """Decays that one contender found.

    Attributes:
      kind: of contender.
      detail: its grain or budget.
      evaluations: gradient evaluations of a seed.
      seconds: of all seeds, one after another or together as the method has them.
      decays: one for each weight, leaves (seeds, …).
      share: of all images that they were found with in training.
    """

    kind: str
    detail: str
    evaluations: float
    seconds: float
    decays: Any
    share: float


def found_by_all(
    problem: Problem, data: Data, config: Any, folder: pathlib.Path, *, resume: bool
) -> Iterator[Found]:
    """What each of them finds."""
    half = config.train_examples / (config.train_examples + config.valid_examples)
    seeds = len(config.seeds)
    unseen = jnp.full(seeds, float(np.exp(config.default)))
    yield Found(DEFAULT, f"{np.exp(config.default):.0e}", 0, 0.0, _by_weight(problem, unseen), 1.0)
    for name, budget, method in searches(problem, config):
        yield by_search(problem, data, config, name, budget, method)
    for grain in config.grains:
        yield by_hyper_training(problem, data, config, grain, folder, half, resume=resume)
    for grain in config.grains:
        yield by_folds(problem, data, config, grain, folder, resume=resume)


def searches(problem: Problem, config: Any) -> Iterator[tuple[str, int, search.Search]]:
    """Each search at each budget, which some of them depend on."""
    steps = config.training.steps
    layers = len(jax.tree.leaves(_decay_problem.decays(problem, 0.0, "layer")))
    for budget in config.budgets:
        points = max(1, int(budget ** (1 / layers) + 1e-9))
        population = min(budget, 10)
        found = {
            "grid": search.grid_search(points=points, steps=steps, population=population),
            "random": search.random_search(steps=steps, population=population),
            "TPE": search.tpe(steps=steps),
            "Bayesian optimization": search.bayesian(steps=steps),
            "Hyperband": search.hyperband(
                resource=config.resource, unit_steps=steps // config.resource, eta=config.eta
            ),
        }
        for name in config.searches:
            yield name, budget, found[name]


def by_search(
    problem: Problem, data: Data, config: Any, name: str, budget: int, method: search.Search
) -> Found:
    """A search for a decay of each layer."""
    settings = config.training
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    began = time.perf_counter()
    result = search.run(
        problem,
        method,
        data,
        _decay_problem.decays(problem, 0.0, "layer"),
        optimizer=optax.adam(schedule),
        budget=budget * settings.steps,
        seeds=config.seeds,
        batch_size=settings.batch_size,
        progress=False,
    )
    seconds = time.perf_counter() - began - result.compile_seconds
    spent = np.mean([each.gradient_evaluations[-1] for each in result.measured])
    share = config.train_examples / (config.train_examples + config.valid_examples)
    decays = _by_weight(problem, result.hyperparams)
    return Found(name, f"{budget} trainings", float(spent), seconds, decays, share)


def by_hyper_training(
    problem: Problem,
    data: Data,
    config: Any,
    grain: Any,
    folder: pathlib.Path,
    share: float,
    *,
    resume: bool,
) -> Found:
    """The centered Kronecker hypernet on the validation images, for decays of a grain."""
    method = _hyper_training.tuned(problem, config.tuned)
    start = _decay_problem.decays(problem, config.start, grain)
    result = _fitted(problem, method, data, start, config, folder / grain, resume=resume)
    return _found(problem, OURS, grain, result, share)


def by_folds(
    problem: Problem, data: Data, config: Any, grain: Any, folder: pathlib.Path, *, resume: bool
) -> Found:
    """The same with one λ on all folds of training and validation images, which all validate."""
    folds = shn.cross_validation(problem, config.folds)
    method = folds.method(
        lambda hyper_optimizer: _hyper_training.centered(problem, config.tuned, hyper_optimizer),
        _hyper_training.on_cosine(config.tuned),
    )
    start = _decay_problem.decays(problem, config.start, grain)
    given = folds.problem, method, folds.split(everything(data)), start, config
    result = _fitted(*given, folder / f"{grain}_folds", resume=resume)
    return _found(problem, FOLDED, grain, result, 1 - 1 / config.folds)


def _fitted(
    problem: Problem,
    method: shn.HyperOptimizer,
    data: Data,
    start: Any,
    config: Any,
    folder: pathlib.Path,
    *,
    resume: bool,
) -> shn.Result:
    settings = config.tuned
    return shn.fit(
        problem,
        method,
        data,
        start,
        steps=settings.rounds,
        seeds=config.seeds,
        inner_steps=settings.inner_steps,
        train_batch_size=settings.batch_size,
        valid_batch_size=settings.valid_batch_size,
        eval_every=settings.rounds // config.evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


def _found(problem: Problem, kind: str, grain: Any, result: shn.Result, share: float) -> Found:
    history = result.history
    return Found(
        kind,
        f"by {grain}",
        float(history.gradient_evaluations[-1].mean()),
        float(history.seconds[-1]),
        _by_weight(problem, result.hyperparams),
        share,
    )


def _by_weight(problem: Problem, decays: Any) -> Any:
    """Decays of a coarser grain, leaves (seeds,), as one for each weight; others as they are."""

    def fill(decay: Any, below: Any) -> Any:
        def of(leaf: Any) -> jax.Array:
            if jnp.ndim(decay) > 1:
                return decay
            shape = (len(decay), *leaf.shape)
            return jnp.broadcast_to(decay.reshape(-1, *[1] * leaf.ndim), shape)

        return jax.tree.map(of, below)

    return jax.tree.map(fill, decays, param_shapes(problem))


def everything(data: Data) -> Examples:
    """Training and validation images together."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), data.train, data.valid)
