"""Sparse group lassos with a penalty for each of 30 to 100 groups, tuned by gradients.

See `_nonsmooth` for the problem.

python -m experiments.sparse_group_lasso --config=configs/sparse_group_lasso.py --workdir=DIR
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _launch, _nonsmooth, _plots, _results
from shohypernet import proximal
from shohypernet.batches import Data, Examples
from shohypernet.folds import Folds
from shohypernet.problem import Problem
from shohypernet.proximal import ProximalGradient

NAME = "sparse_group_lasso"
SPLITS = "valid", "test", "refitted"
GRID, TWO, EACH = "two penalties, grid", "two penalties, implicit", "one per group, implicit"
TWO_FOLDED, EACH_FOLDED = "two penalties, folds", "one per group, folds"


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune every run of every number of groups in three ways, and compare their errors."""
    del resume  # it takes a few minutes
    outcomes = {groups: contest(groups, config) for groups in config.groups}
    _plots.save_figure(draw(outcomes, config), workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {
            f"{groups} groups, {name}: {field}": values
            for groups, each in outcomes.items()
            for name, fields in each.items()
            for field, values in fields.items()
        },
    )
    print(table(outcomes))
    return {
        "main": {
            f"{groups} groups, {name}": float(outcomes[groups][name]["refitted"].mean())
            for groups in outcomes
            for name in (GRID, TWO, EACH)
        },
        "claims": claims(outcomes, config.active_groups),
        "means": {
            str(groups): {
                name: {split: float(fields[split].mean()) for split in SPLITS}
                for name, fields in each.items()
            }
            for groups, each in outcomes.items()
        },
    }


def weights(groups: int, config: Any) -> np.ndarray:
    """β: 1 to 5 and zeros in each of the first groups, zeros in the others."""
    one = np.zeros(config.group_size)
    one[:5] = np.arange(1, 6)
    first = np.arange(groups) < config.active_groups
    return np.outer(first, one).ravel()


def contest(groups: int, config: Any) -> dict[str, dict[str, np.ndarray]]:
    """Errors of every run and its penalties, by way of tuning."""
    true = weights(groups, config)
    runs = [_nonsmooth.draw(true, config.sizes, config, i) for i in range(config.runs)]
    regularizer = proximal.sparse_group_lasso(np.arange(len(true)) // config.group_size)
    space = shn.hyperparameters.log(config.low, config.high)
    problem = _nonsmooth.problem(len(true), regularizer, space)
    largest = max(
        _nonsmooth.curvature(part.inputs)
        for data in runs
        for part in (data.train, _nonsmooth.both(data))
    )
    optimizer = proximal.gradient(regularizer, 1 / largest)
    solve = _solver(problem, optimizer, config.train_steps)

    print(f"{groups} groups: grid of {config.grid} by {config.grid}, {config.runs} runs.")
    chosen = {GRID: _by_grid(solve, runs, config)}
    for name, shape in {TWO: (), EACH: (groups,)}.items():
        print(f"{groups} groups: {name}.")
        chosen[name] = _tuned(problem, optimizer, runs, shape, config)

    folds = shn.cross_validation(problem, config.folds)
    splits = [folds.split(_nonsmooth.both(data)) for data in runs]
    by_fold = [np.moveaxis(np.asarray(data.train.inputs), 1, 0) for data in splits]
    optimizer = proximal.gradient(regularizer, 1 / max(map(_nonsmooth.curvature, by_fold)))
    for name, shape in {TWO_FOLDED: (), EACH_FOLDED: (groups,)}.items():
        print(f"{groups} groups: {name}.")
        chosen[name] = _tuned(problem, optimizer, splits, shape, config, folds)
    return {
        name: _nonsmooth.errors(solve, runs, decays) | decays for name, decays in chosen.items()
    }


def _tuned(
    problem: Problem,
    optimizer: ProximalGradient,
    runs: list[Data],
    shape: tuple[int, ...],
    config: Any,
    folds: Folds | None = None,
) -> dict[str, np.ndarray]:
    """Penalties by implicit differentiation, those of the groups of a given shape."""
    schedule = optax.cosine_decay_schedule(config.hyper_learning_rate, config.rounds)

    def build(hyper_optimizer: optax.GradientTransformation) -> shn.HyperOptimizer:
        return shn.implicit(
            problem,
            optimizer=optimizer,
            hyper_optimizer=hyper_optimizer,
            solver=shn.linear_solvers.conjugate_gradient(config.products),
        )

    adam = optax.adam(schedule)
    method = folds.method(build, adam) if folds else build(adam)
    start = {"l1": jnp.float32(config.start), "groups": jnp.full(shape, config.start)}
    path, _ = _nonsmooth.tuned(method, runs, start, config.rounds, config.inner_steps)
    return jax.tree.map(lambda leaf: leaf[-1], path)


def _solver(
    problem: Problem, optimizer: ProximalGradient, steps: int
) -> Callable[[Examples, Any], np.ndarray]:
    """Weights after many proximal steps, compiled once for each number of examples."""

    @jax.jit
    def trained(examples: Examples, decays: Any) -> jax.Array:
        key = jax.random.key(0)
        return shn.train(problem, optimizer(decays), key, decays, examples, steps=steps).params

    def solve(examples: Examples, decays: Any) -> np.ndarray:
        on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), examples)
        return np.asarray(trained(on_device, decays), np.float64)

    return solve


def _by_grid(
    solve: Callable[[Examples, Any], np.ndarray], runs: list[Data], config: Any
) -> dict[str, np.ndarray]:
    """The pair of penalties that validates best, for each run."""
    side = np.geomspace(config.low, config.high, config.grid).astype(np.float32)
    pairs = [{"l1": l1, "groups": each} for l1 in side for each in side]
    best = []
    for data in runs:
        losses = [
            _nonsmooth.mean_squared_error(solve(data.train, pair), data.valid) for pair in pairs
        ]
        best.append(pairs[int(np.argmin(losses))])
    return {name: np.asarray([pair[name] for pair in best]) for name in ("l1", "groups")}


def claims(
    outcomes: dict[int, dict[str, dict[str, np.ndarray]]], active: int
) -> list[dict[str, Any]]:
    """Claims about mean errors and penalties, at each number of groups.

    Args:
      outcomes: by number of groups and way of tuning.
      active: number of groups with weights, the first ones.
    """

    def means(name: str, split: str) -> np.ndarray:
        return np.asarray([each[name][split].mean() for each in outcomes.values()])

    def shown(name: str, split: str) -> str:
        pairs = zip(outcomes, means(name, split), strict=True)
        return ", ".join(f"{mean:.2f} with {groups}" for groups, mean in pairs)

    medians = {
        groups: tuple(
            float(np.median(np.asarray(each[EACH_FOLDED]["groups"])[:, part]))
            for part in (slice(active), slice(active, None))
        )
        for groups, each in outcomes.items()
    }
    return [
        _results.claim(
            "Two penalties tuned by gradients validate as well as those of the grid, within 1 %.",
            f"{shown(TWO, 'valid')} groups; grid {shown(GRID, 'valid')}",
            holds=bool(np.all(means(TWO, "valid") <= 1.01 * means(GRID, "valid"))),
        ),
        _results.claim(
            "A penalty for each group has a lower validation loss than two penalties, by far.",
            f"{shown(EACH, 'valid')} groups",
            holds=bool(np.all(means(EACH, "valid") < 0.9 * means(TWO, "valid"))),
        ),
        _results.claim(
            "Groups with weights get far smaller penalties than the others.",
            "; ".join(
                f"medians {with_weights:.2g} and {without:.2g} with {groups} groups"
                for groups, (with_weights, without) in medians.items()
            ),
            holds=all(each < 0.2 * others for each, others in medians.values()),
        ),
        _results.claim(
            "A penalty for each group has a lower test error as well, refitted on all examples, "
            "where few validate.",
            f"{shown(EACH, 'refitted')} groups; two by gradients {shown(TWO, 'refitted')}; by the "
            f"grid {shown(GRID, 'refitted')}",
            holds=bool(np.all(means(EACH, "refitted") < means(TWO, "refitted"))),
        ),
        _results.claim(
            "It has where five folds validate.",
            f"{shown(EACH_FOLDED, 'refitted')} groups; two {shown(TWO_FOLDED, 'refitted')}",
            holds=bool(np.all(means(EACH_FOLDED, "refitted") < means(TWO_FOLDED, "refitted"))),
        ),
    ]


def table(outcomes: dict[int, dict[str, dict[str, np.ndarray]]]) -> str:
    """Mean errors as a table in plain text."""
    rows = [
        [f"{groups} groups, {name}", *(f"{fields[split].mean():.3f}" for split in SPLITS)]
        for groups, each in outcomes.items()
        for name, fields in each.items()
    ]
    return _results.table(["", "validation", "test", "refitted"], rows)


def draw(outcomes: dict[int, dict[str, dict[str, np.ndarray]]], config: Any) -> Figure:
    """Test errors by number of groups, and the first run's penalties of all groups."""
    figure, axes = plt.subplots(2, len(outcomes), figsize=(6 * len(outcomes), 7), squeeze=False)
    for (top, bottom), (groups, each) in zip(axes.T, outcomes.items(), strict=True):
        for i, (name, color) in enumerate(zip(each, (*_plots.COLORS, "0.4"), strict=True)):
            values = each[name]["refitted"]
            top.plot(values, np.full(len(values), i), "o", color=color, alpha=0.4, markersize=4)
            top.plot(values.mean(), i, "|", color=color, markersize=22, markeredgewidth=2.5)
        top.set_yticks(range(len(each)), each)
        top.invert_yaxis()
        top.set(
            xlabel="test error (MSE), refitted", title=f"{groups} groups (dots: runs, bar: mean)"
        )
        penalties = np.asarray(each[EACH_FOLDED]["groups"])
        numbers = np.arange(groups)
        bottom.plot(numbers, penalties.T, ".", color="0.6", markersize=4)
        bottom.plot(numbers, np.median(penalties, axis=0), "_", color=_plots.COLORS[1])
        bottom.axvspan(-0.5, config.active_groups - 0.5, color=_plots.COLORS[2], alpha=0.15)
        bottom.axhline(config.start, color="0.4", linestyle=":", linewidth=1)
        bottom.set(
            yscale="log",
            xlabel="group (shaded: those with weights)",
            ylabel="penalty",
            title="Penalty of each group, five folds\n(dots: runs, bar: median, dotted: start)",
        )
    return figure


if __name__ == "__main__":
    _launch.main(run)
