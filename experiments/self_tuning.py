"""Seventeen hyperparameters of a LeNet tuned in one run, beside searches, and trained again.

Augmentations, dropout rates, label smoothing and weight decays by layer start from next to nothing
(see `_augmented_lenet`) and are tuned by Delta-STN (`self_tuning`), while the network trains. What
counts is what comes after: every method's choice is trained again from new weights, on training and
validation images together, and tested. One more recipe goes through the schedule of the run again.

python -m experiments.self_tuning --config=configs/self_tuning.py --workdir=DIR
"""

import pathlib
import time
from typing import Any

import jax
import numpy as np

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _results, _self_tuned, _self_tuning_plot
from experiments._augmented_lenet import (
    Outcome,
    build,
    one_decay,
    optimizer,
    retrainer,
    without_regularization,
)
from experiments._self_tuned import RANDOM, TPE
from shohypernet.batches import Data
from shohypernet.problem import Problem

NAME = "self_tuning"
OFF, DECAY = "no regularization", "one decay, by a grid"
TUNED, SCHEDULE = "self-tuning", "self-tuning, its schedule"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune, search, train every recipe again, and compare them on the test images."""
    data, problem = _decay_problem.load_data(config), build(config)
    alpha = optimizer(config, config.rounds * config.inner_steps)
    tuned = _self_tuned.tune(problem, data, config, workdir / "fit", alpha, resume=resume)
    of_trials = optimizer(config, config.train_steps)
    searched = _self_tuned.search(problem, data, config, of_trials, tuned)
    decays, grid_cost = _best_decays(problem, data, config)
    recipes = {
        OFF: [without_regularization(problem) for _ in config.seeds],
        DECAY: [one_decay(problem, decay) for decay in decays],
        **{name: _self_tuned.of_seeds(each, config) for name, each in searched.items()},
        TUNED: _self_tuned.of_seeds(tuned, config),
        SCHEDULE: [tuned.seed(i).history for i, _ in enumerate(config.seeds)],
    }
    outcomes = _train_again(problem, data, recipes, config)
    own, of_searches = _self_tuned.costs(tuned, searched, config)
    costs = {OFF: (0, 0.0), DECAY: grid_cost, **of_searches, TUNED: own, SCHEDULE: own}
    valid = {TUNED: tuned.history.valid_loss[-1]}
    valid |= {name: np.asarray(each.valid_loss) for name, each in searched.items()}

    figure = _self_tuning_plot.draw(tuned.history, outcomes)
    _plots.save_figure(figure, workdir, NAME)
    arrays = _results.history_arrays(TUNED, tuned.history)
    paths = jax.tree.leaves_with_path(tuned.history.hyperparams)
    arrays |= {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}
    _results.save_arrays(workdir, NAME, arrays)
    print(table(outcomes, costs))
    return {
        "main": {
            f"loss, {name}": outcomes[name].loss.tolist() for name in (OFF, *config.searches, TUNED)
        },
        "claims": claims(outcomes, valid),
        "outcomes": {name: _results.listed(each._asdict()) for name, each in outcomes.items()},
        "valid_losses": _results.listed(valid),
        "costs": costs,
        "hyperparams": {
            name: _results.listed(each) for name, each in recipes.items() if name != SCHEDULE
        },
        "compile_seconds": tuned.compile_seconds,
    }


def _best_decays(
    problem: Problem, data: Data, config: Any
) -> tuple[list[float], tuple[int, float]]:
    """The decay of each seed that validates best, and what a seed's grid cost."""
    print(f"One decay: {len(config.decays)} inner runs per seed.")
    steps = config.train_steps

    @jax.jit
    def valid_loss(key: jax.Array, hyperparams: Any, data: Data) -> jax.Array:
        sizes = {"steps": steps, "batch_size": config.batch_size}
        trained = shn.train(
            problem, optimizer(config, steps), key, hyperparams, data.train, **sizes
        )
        return problem.valid_loss(trained.params, hyperparams, data.valid)

    recipes = [one_decay(problem, decay) for decay in config.decays]
    valid_loss.lower(jax.random.key(0), recipes[0], data).compile()
    began, chosen = time.perf_counter(), []
    for seed in config.seeds:
        losses = [float(valid_loss(jax.random.key(seed), each, data)) for each in recipes]
        chosen.append(float(config.decays[int(np.argmin(losses))]))
    seconds = (time.perf_counter() - began) / len(config.seeds)
    return chosen, (len(recipes) * steps, seconds)


def _train_again(
    problem: Problem, data: Data, recipes: dict[str, list[Any]], config: Any
) -> dict[str, Outcome]:
    """Outcomes of each recipe, leaves (seeds,)."""
    print("Training again from new weights, on training and validation images together.")
    retrain = retrainer(problem, data, config)
    outcomes = {}
    for name, of_seeds in recipes.items():
        made = [retrain(seed, each) for seed, each in zip(config.seeds, of_seeds, strict=True)]
        outcomes[name] = Outcome(*map(np.array, zip(*made, strict=True)))
    return outcomes


def claims(outcomes: dict[str, Outcome], valid: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Claims about means over seeds."""
    tuned, decay = outcomes[TUNED], outcomes[DECAY]
    searches = [name for name in (RANDOM, TPE) if name in outcomes]
    errors = {name: 100 * each.error for name, each in outcomes.items()}
    against_searches = [
        _results.claim(
            "Validation loss of the run is below that of each search, on average.",
            "; ".join(f"{name} {_range(each)}" for name, each in valid.items()),
            holds=all(valid[TUNED].mean() < valid[name].mean() for name in searches),
        ),
        _results.claim(
            "Trained again on all images, its error is at or below each search's, on average.",
            "; ".join(f"{name} {_percent(errors[name])} %" for name in (TUNED, *searches)),
            holds=all(errors[TUNED].mean() <= errors[name].mean() for name in searches),
        ),
    ]
    return [
        *(against_searches if searches else []),
        _results.claim(
            "Trained again on all images, its error is a fifth below that with one decay or more.",
            f"{TUNED} {_percent(errors[TUNED])} % against {_percent(errors[DECAY])} %",
            holds=errors[TUNED].mean() <= 0.8 * errors[DECAY].mean(),
        ),
        _results.claim(
            "The loss of every seed is below that with one decay.",
            f"{TUNED} {_range(tuned.loss)} against {_range(decay.loss)}",
            holds=bool(np.all(tuned.loss < decay.loss)),
        ),
    ]


def table(outcomes: dict[str, Outcome], costs: dict[str, tuple[int, float]]) -> str:
    """Mean and range over seeds, on the test images, as a table in plain text."""
    head = ["", "test loss", "test error, %", "gradients", "seconds per seed"]
    rows = [
        [
            name,
            _range(each.loss),
            _percent(100 * each.error),
            f"{costs[name][0]:,}",
            f"{costs[name][1]:.1f}",
        ]
        for name, each in outcomes.items()
    ]
    return _results.table(head, rows)


def _range(values: np.ndarray) -> str:
    return _results.mean_and_range(values, 4)


def _percent(values: np.ndarray) -> str:
    return _results.mean_and_range(values, 2)


if __name__ == "__main__":
    _launch.main(run)
