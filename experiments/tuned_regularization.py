"""Several hyperparameters of a small network, tuned in one run, beside a random search.

Dropout rates, shifts of the images and a weight decay per layer (see `_regularized_network`): they
regularize a network by their nature, and so help a network that is trained again from scratch. No
derivative in λ is taken of the stochastic terms, for Algorithm 3 (`local_response`) needs none: the
hypernet sees how the sampled λ change w.

python -m experiments.tuned_regularization --config=configs/tuned_regularization.py --workdir=DIR
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _launch, _plots, _results, _tuned_regularization_plot
from experiments._regularized_network import (
    SPACE,
    Outcome,
    build,
    load_data,
    train_again,
    weights_optimizer,
)
from shohypernet.batches import Data
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem
from shohypernet.search import SearchResult

NAME = "tuned_regularization"
RECIPES = "no regularization", "random search", "hyper-training"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune, search, train all three recipes again, and compare them on the test images."""
    data, problem = load_data(config), build(config)
    start = {name: jnp.float32(value) for name, value in config.start.items()}
    tuned = _tuned(problem, data, start, config, workdir / "fit", resume=resume)
    searched = _searched(problem, data, start, config)
    print("Training again from scratch, on training and validation images together.")
    began = time.perf_counter()
    chosen = _off(start, config), searched.hyperparams, tuned.hyperparams
    recipes: dict[str, Any] = dict(zip(RECIPES, chosen, strict=True))
    outcomes = train_again(problem, data, recipes, config)
    seconds = time.perf_counter() - began
    costs, path = _costs(tuned, searched), tuned.history.hyperparams

    figure = _tuned_regularization_plot.draw(outcomes, path, tuned.history.step)
    _plots.save_figure(figure, workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {
            "steps": tuned.history.step,
            **{f"path_{name}": values for name, values in path.items()},
            **{f"{name}: loss": each.loss for name, each in outcomes.items()},
            **{f"{name}: accuracy": each.accuracy for name, each in outcomes.items()},
        },
    )
    print(table(outcomes, costs))
    return {
        "main": {f"loss, {name}": each.loss.tolist() for name, each in outcomes.items()},
        "claims": claims(outcomes, costs),
        "outcomes": {name: _results.listed(each._asdict()) for name, each in outcomes.items()},
        "hyperparams": {name: _results.listed(each) for name, each in recipes.items()},
        "costs": costs,
        "seconds_training_again": seconds,
        "compile_seconds": tuned.compile_seconds + searched.compile_seconds,
    }


def _tuned(
    problem: Problem, data: Data, start: Any, config: Any, folder: pathlib.Path, *, resume: bool
) -> shn.Result:
    print(f"Tuning {len(SPACE)} hyperparameters in one run, seeds {tuple(config.seeds)}.")
    return shn.fit(
        problem,
        tuner(problem, config, start),
        data,
        start,
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


def tuner(problem: Problem, config: Any, start: Any) -> shn.HyperOptimizer:
    """Algorithm 3 with a linear hypernet of λ − start, with next to no slope at first."""
    linear = shn.hypernets.linear(init_scale=config.hypernet_init_scale)
    center = shn.hyperparameters.encode(problem.space, start)

    def apply(hypernet_params: Any, hyperparams: Any) -> Any:
        return linear.apply(hypernet_params, jax.tree.map(jnp.subtract, hyperparams, center))

    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.hyper_learning_rate, config.rounds // 10, config.rounds
    )
    return shn.local_response(
        problem,
        Hypernet(linear.init, apply),
        hypernet_optimizer=weights_optimizer(config, config.rounds * config.inner_steps),
        hyper_optimizer=optax.adam(schedule),
        sampler=shn.samplers.local_gaussian(config.sampling_scale),
        samples=1,
    )


def _searched(problem: Problem, data: Data, start: Any, config: Any) -> SearchResult:
    print(f"Random search: {config.trials} trials of {config.train_steps} steps per seed.")
    return shn.search.run(
        problem,
        shn.search.random_search(steps=config.train_steps, population=1),
        data,
        start,
        optimizer=weights_optimizer(config, config.train_steps),
        budget=config.trials * config.train_steps,
        seeds=config.seeds,
        batch_size=config.batch_size,
    )


def _off(start: Any, config: Any) -> Any:
    """Hyperparameters that do nothing, for each seed."""
    values = {name: 1e-12 if name.startswith("decay") else 1e-6 for name in start}
    return {name: jnp.full(len(config.seeds), value) for name, value in values.items()}


def _costs(tuned: shn.Result, searched: SearchResult) -> dict[str, dict[str, float]]:
    """Gradient evaluations per seed and seconds of all seeds, compilation apart."""
    return {
        "hyper-training": {
            "gradient_evaluations": int(np.mean(tuned.history.gradient_evaluations[-1])),
            "seconds": float(tuned.history.seconds[-1]),
        },
        "random search": {
            "gradient_evaluations": int(searched.measured[0].gradient_evaluations[-1]),
            "seconds": max(float(each.seconds[-1]) for each in searched.measured),
        },
        "no regularization": {"gradient_evaluations": 0, "seconds": 0.0},
    }


def claims(
    outcomes: dict[str, Outcome], costs: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """Claims about the mean test loss of the networks that were trained again."""
    off, searched, tuned = (outcomes[name] for name in RECIPES)
    ours, theirs = costs["hyper-training"], costs["random search"]
    cheaper = all(ours[unit] <= theirs[unit] for unit in ours)
    return [
        _results.claim(
            "A network trained again with the tuned hyperparameters beats one without "
            "regularization, every seed.",
            f"test loss {_range(tuned.loss)} against {_range(off.loss)}",
            holds=bool(np.all(tuned.loss < off.loss)),
        ),
        _results.claim(
            "On average it beats one with the best of a random search that took no less compute.",
            f"test loss {_range(tuned.loss)} against {_range(searched.loss)}, for "
            f"{ours['gradient_evaluations']:,} gradient evaluations per seed and "
            f"{ours['seconds']:.1f} s against {theirs['gradient_evaluations']:,} and "
            f"{theirs['seconds']:.1f} s",
            holds=bool(tuned.loss.mean() < searched.loss.mean() and cheaper),
        ),
    ]


def table(outcomes: dict[str, Outcome], costs: dict[str, dict[str, float]]) -> str:
    """Mean and range over seeds, on the test images, as a table in plain text."""
    rows = []
    for name, each in outcomes.items():
        cost, seconds = costs[name]["gradient_evaluations"], costs[name]["seconds"]
        rows.append([name, *map(_range, each), f"{cost:,}", f"{seconds:.1f}"])
    return _results.table(["", "test loss", "test accuracy", "gradients", "seconds"], rows)


def _range(values: np.ndarray) -> str:
    return _results.mean_and_range(values, 3)


if __name__ == "__main__":
    _launch.main(run)
