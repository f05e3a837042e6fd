"""A run of `self_tuning`, and searches that it is held against, as some experiments have them."""

import pathlib
from typing import Any

import jax
import numpy as np
import optax

import shohypernet as shn
from shohypernet.batches import Data
from shohypernet.problem import Problem

RANDOM, TPE = "random search", "TPE"


def tune(
    problem: Problem,
    data: Data,
    config: Any,
    folder: pathlib.Path,
    optimizer: optax.GradientTransformation,
    *,
    resume: bool,
    examples_per_draw: int = 1,
) -> shn.Result:
    """Tune all hyperparameters of the problem while its network trains, for each seed."""
    count = len(jax.tree.leaves(problem.start))
    print(f"Tuning {count} hyperparameters while a network trains, seeds {tuple(config.seeds)}.")
    method = shn.self_tuning(
        problem,
        optimizer=optimizer,
        response_optimizer=optax.adam(config.response_learning_rate),
        hyper_optimizer=optax.rmsprop(config.hyper_learning_rate),
        scale=config.scale,
        entropy_weight=config.entropy_weight,
        warmup_rounds=config.warmup_rounds,
        examples_per_draw=examples_per_draw,
    )
    return shn.fit(
        problem,
        method,
        data,
        steps=config.rounds,
        seeds=config.seeds,
        inner_steps=config.inner_steps,
        train_batch_size=config.batch_size,
        valid_batch_size=config.valid_batch_size,
        eval_every=config.rounds // config.evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=config.to_dict(),
    )


def search(
    problem: Problem,
    data: Data,
    config: Any,
    optimizer: optax.GradientTransformation,
    tuned: shn.Result,
) -> dict[str, shn.search.SearchResult]:
    """The searches of a config, with `budget` times the gradient evaluations of the tuning."""
    steps = config.train_steps
    methods = {
        RANDOM: shn.search.random_search(steps=steps, population=1),
        TPE: shn.search.tpe(steps=steps),
    }
    budget = max(steps, int(config.budget * np.mean(tuned.history.gradient_evaluations[-1])))
    found = {}
    for name in config.searches:
        print(f"{name}: {budget // steps} trials per seed.")
        found[name] = shn.search.run(
            problem,
            methods[name],
            data,
            optimizer=optimizer,
            budget=budget,
            seeds=config.seeds,
            batch_size=config.batch_size,
        )
    return found


def of_seeds(result: Any, config: Any) -> list[Any]:
    """The hyperparameters of each seed of a run or a search."""
    return [
        jax.tree.map(lambda leaf, i=i: leaf[i], result.hyperparams)
        for i, _ in enumerate(config.seeds)
    ]


def costs(
    tuned: shn.Result, searched: dict[str, shn.search.SearchResult], config: Any
) -> tuple[tuple[int, float], dict[str, tuple[int, float]]]:
    """Gradient evaluations and seconds of a seed: of the tuning, and of each search."""
    count = len(config.seeds)
    of_searches = {
        name: (
            int(each.measured[0].gradient_evaluations[-1]),
            max(float(of_seed.seconds[-1]) for of_seed in each.measured) / count,
        )
        for name, each in searched.items()
    }
    own = (
        int(np.mean(tuned.history.gradient_evaluations[-1])),
        float(tuned.history.seconds[-1]) / count,
    )
    return own, of_searches
