"""Exploration by uncertainty, on a validation loss with minima at wrong angles.

λ is the angle by which upright training images are turned, and a decay; the validation images
come from a camera mounted at an angle that nobody wrote down. Hyper-training starts near a wrong
minimum, from where Algorithms 2 and 3 follow the gradient. The others train the hypernet where
candidates look best: to one drawn from the posterior (Thompson), to the most hopeful of
several (optimistic), or to its mean. Bayesian optimization and random search may spend as much.
What counts is the loss of models that are trained to the end at the λ that each has found.

python -m experiments.exploration --config=configs/exploration.py --workdir=DIR
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _exploration_plot, _launch, _plots, _results, _turned_digits
from experiments._explorers import (
    BAYESIAN,
    GLOBAL,
    LOCAL,
    MEAN,
    OPTIMISTIC,
    RANDOM,
    THOMPSON,
    Course,
    contenders,
)
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data

NAME = "exploration"
NEAR = 20.0  # degrees from the camera's angle, whose valley is several times as wide


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Let every contender spend its budget, and train to the end at what it found."""
    del resume  # what is in the folder is read again in either case
    data = _turned_digits.load_data(config)
    courses = {
        name: _course(name, made, workdir) for name, made in contenders(data, config).items()
    }
    print("Training to the end, at every λ found and all around.")
    found, landscape = train_again(data, courses, config)
    figure = _exploration_plot.draw(courses, found, landscape, config)
    _plots.save_figure(figure, workdir, NAME)
    reached = {name: cost_to_reach(each, config) for name, each in courses.items()}
    rows = [
        [
            name,
            *(_results.mean_and_range(losses, 3) for losses in found[name]),
            *_spent(reached[name]),
            f"{courses[name].seconds[-1]:.0f}",
        ]
        for name in courses
    ]
    head = ["", "valid", "test", "seeds at the angle", "evaluations to it", "seconds"]
    print(_results.table(head, rows))
    return {
        "main": {f"trained validation loss, {name}": found[name][0].tolist() for name in found},
        "claims": claims({name: both[0] for name, both in found.items()}, reached),
        "test": {name: both[1].tolist() for name, both in found.items()},
        "evaluations_to_the_angle": {name: each.tolist() for name, each in reached.items()},
        "seconds": {name: float(each.seconds[-1]) for name, each in courses.items()},
    }


def _course(name: str, made: Callable[[], Course], workdir: pathlib.Path) -> Course:
    """A contender's course, kept in a file when it is finished."""
    saved = workdir / f"{name.replace(' ', '_').lower()}.npz"
    if not saved.exists():
        print(f"{name} ...", flush=True)
        _results.save_arrays(workdir, saved.stem, made()._asdict())
    with np.load(saved) as arrays:
        return Course(**arrays)


def train_again(
    data: Data, courses: dict[str, Course], config: Any
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[np.ndarray, np.ndarray]]:
    """Train models to the end at the last λ of every seed, and all around.

    Returns:
      Validation and test losses (seeds,) by contender; and angles all around, with the validation
      losses there, at the decay that hyper-training starts from.
    """
    around = np.linspace(-np.pi, np.pi, config.around)
    decay = np.exp((config.decay_low + config.decay_high) / 2)
    angles = [each.angle[:, -1] for each in courses.values()]
    decays = [each.decay[:, -1] for each in courses.values()]
    points = {
        "angle": jnp.float32(np.concatenate([*angles, around])),
        "decay": jnp.float32(np.concatenate([*decays, np.full(config.around, decay)])),
    }
    keys = jax.random.split(jax.random.key(1), len(points["angle"]))
    problem = _turned_digits.problem_on(config, hp.real())
    losses = _turned_digits.trained(problem, data, keys, points, config)
    ends = np.cumsum([len(each) for each in angles])
    valid, test = (np.split(each, ends) for each in losses)
    both = zip(valid[:-1], test[:-1], strict=True)
    return dict(zip(courses, both, strict=True)), (around, valid[-1])


def cost_to_reach(course: Course, config: Any) -> np.ndarray:
    """Evaluations after which the angle is the camera's to the end; NaN for seeds without."""
    off = np.degrees(course.angle) - config.mounted
    at = np.abs((off + 180) % 360 - 180) < NEAR
    since = np.flip(np.logical_and.accumulate(np.flip(at, 1), axis=1), 1)
    first = course.evaluations[np.argmax(since, axis=1)].astype(float)
    return np.where(since[:, -1], first, np.nan)


def _spent(reached: np.ndarray) -> tuple[str, str]:
    """Number of seeds that got there, and their median cost."""
    there = np.isfinite(reached)
    cost = f"{np.median(reached[there]):,.0f}" if there.any() else "-"
    return f"{there.sum()} of {len(there)}", cost


# Claims are sentences that may turn out false. What was expected stays, whatever is measured.
def claims(losses: dict[str, np.ndarray], reached: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Claims about the losses of models trained at the λ found, and about the cost to find it."""
    there = {name: np.isfinite(each) for name, each in reached.items()}
    spent = {name: np.where(there[name], each, np.inf) for name, each in reached.items()}
    explorers, searches = (THOMPSON, OPTIMISTIC), (BAYESIAN, RANDOM)

    def shown(*names: str) -> str:
        return "; ".join(f"{name} {_results.mean_and_range(losses[name], 3)}" for name in names)

    def costs(*names: str) -> str:
        return "; ".join(f"{name} {_spent(reached[name])[1]}" for name in names)

    return [
        _results.claim(
            "From the start near a wrong angle, Algorithms 2 and 3 end at a wrong one, every seed.",
            shown(GLOBAL, LOCAL),
            holds=not np.any(there[GLOBAL] | there[LOCAL]),
        ),
        _results.claim(
            "Thompson and optimistic choices end at the camera's angle, every seed.",
            shown(*explorers),
            holds=bool(np.all(there[THOMPSON] & there[OPTIMISTIC])),
        ),
        _results.claim(
            "They get there with fewer evaluations than either search, by the median over seeds.",
            costs(*explorers, *searches),
            holds=bool(
                max(np.median(spent[name]) for name in explorers)
                < min(np.median(spent[name]) for name in searches)
            ),
        ),
        _results.claim(
            "The λ they end at are as good as Bayesian optimization's with the whole budget: "
            "models trained there have a mean loss within 0.01 of, or below, theirs.",
            shown(*explorers, BAYESIAN),
            holds=bool(
                max(losses[name].mean() for name in explorers) <= losses[BAYESIAN].mean() + 0.01
            ),
        ),
        _results.claim(
            "It takes the uncertainty: by the mean alone some seed ends at a wrong angle, or the "
            "median seed takes more evaluations than with either choice.",
            f"{_spent(reached[MEAN])[0]} seeds; {costs(MEAN, *explorers)}",
            holds=not there[MEAN].all()
            or bool(np.median(spent[MEAN]) > max(np.median(spent[name]) for name in explorers)),
        ),
    ]


if __name__ == "__main__":
    _launch.main(run)
