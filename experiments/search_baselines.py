"""The appendix figure of the paper: hyper-training beside black-box searches, at equal compute.

    L_train(w, λ) = MSE(train, w) + (1/10) Σ_i exp(λ_g(i)) w_i²,   g: weight -> its decay's number

python -m experiments.search_baselines --config=configs/search_baselines.py --workdir=DIR
"""

import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import scipy.optimize
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import shohypernet as shn
from experiments import decay_problem, hyper_training, launch, report
from shohypernet import ridge, search
from shohypernet.batches import CLASSES, IMAGE_SHAPE, Data
from shohypernet.models import MLP
from shohypernet.problem import Problem
from shohypernet.ridge import Losses, Ridge
from shohypernet.search import Search

FEATURES = IMAGE_SHAPE[0] * IMAGE_SHAPE[1] + 1  # the bias last
EVERY_WEIGHT = FEATURES * CLASSES
OURS, PAPER = "centered hyper-training", "hyper-training"
FIRST_PART = 0.1  # of the budget, from which the paper's claim is to hold


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


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Runs every method on every number of decays, and draws two figures."""
    del resume  # what was finished is found in the folder
    data = decay_problem.load_data(config)
    exact = ridge.ridge(data)
    scalar = optimum(exact, grouping(1))
    curves: dict[int, dict[str, Curve]] = {}
    optima: dict[int, Losses] = {}
    # Those of the paper first.
    for count in dict.fromkeys((*config.main_decays, *config.other_decays)):
        groups = grouping(count)
        optima[count] = descended(exact) if count == EVERY_WEIGHT else optimum(exact, groups)
        problem = problem_on(data, groups)
        curves[count] = {}
        for name, method in methods(problem, data, count, config).items():
            saved = workdir / f"{count}_{name.replace(' ', '_')}.npz"
            if not saved.exists():
                began = time.perf_counter()
                curve = method()
                report.save_arrays(workdir, saved.stem, curve._asdict())
                took = time.perf_counter() - began
                best = np.median(curve.valid_loss[:, -1])
                print(f"{count} decays, {name}: {best:.5f} in {took:.0f} s.", flush=True)
            with np.load(saved) as arrays:
                curves[count][name] = Curve(**arrays)

    main = list(config.main_decays)
    curves = dict(sorted(curves.items()))
    report.save_figure(_draw(main, curves, optima, scalar), workdir, "search_baselines")
    report.save_figure(_draw_by_count(curves, optima), workdir, "search_baselines_by_decays")
    return {
        "claims": [
            *(_claim_below(count, curves[count]) for count in main),
            _claim_many(curves, optima),
        ],
        "best_scalar": scalar._asdict(),
        "exact": {str(count): losses._asdict() for count, losses in optima.items()},
        "final": {
            str(count): {
                name: {
                    split: np.nanpercentile(losses[:, -1], (25, 50, 75)).tolist()
                    for split, losses in (("valid", c.valid_loss), ("test", c.test_loss))
                }
                | {"seconds": float(c.seconds[-1])}
                for name, c in by_name.items()
            }
            for count, by_name in curves.items()
        },
    }


def grouping(count: int) -> np.ndarray:
    """Which decay each weight has, shape (785, 10), the bias last.

    Up to 10 decays share the classes out; 10·b are one for each class and band of the image, from
    top to bottom; 7,850 are one for each weight.
    """
    if count == EVERY_WEIGHT:
        return np.arange(count).reshape(FEATURES, CLASSES)
    classes = min(count, CLASSES)
    bands = count // classes
    if CLASSES % classes or count % classes or IMAGE_SHAPE[0] < bands:
        raise ValueError(
            f"the number of decays must divide 10, be 10 for each of up to {IMAGE_SHAPE[0]} bands, "
            f"or be {EVERY_WEIGHT:,}; got {count}."
        )
    row = np.arange(FEATURES - 1) // IMAGE_SHAPE[1]
    band = np.append(row * bands // IMAGE_SHAPE[0], bands // 2)
    return band[:, None] * classes + np.arange(CLASSES)[None] * classes // CLASSES


def problem_on(data: Data, groups: np.ndarray) -> Problem:
    """The linear problem with a decay for each group of weights, λ of shape (groups,)."""

    def penalty(params: Any, decays: jax.Array) -> jax.Array:
        each = decays[groups]
        tree = {"Dense_0": {"kernel": each[:-1], "bias": each[-1]}}
        return shn.penalties.weight_decay(params, tree) / CLASSES

    return shn.supervised(
        MLP(CLASSES),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        penalty,
        space=shn.hyperparameters.log(),
    )


def descended(exact: Ridge) -> Losses:
    """The losses after 30 steps along the exact hypergradient of all decays; later ones overfit."""
    start = np.full(exact.train.cross.shape, decay_problem.DESCENT_START)
    path = ridge.descent(exact, start)
    *_, (_, losses) = itertools.islice(path, decay_problem.DESCENT_STEPS)
    return losses


def optimum(exact: Ridge, groups: np.ndarray) -> Losses:
    """The losses of the exact best decays, one for each group."""
    count = groups.max() + 1
    start = np.full(count, decay_problem.SCALAR_START)
    scale = ridge.hypergradient(exact, start[groups])[0].valid

    def objective(log_decays: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = ridge.hypergradient(exact, log_decays[groups])
        by_group = np.bincount(groups.ravel(), gradient.ravel(), minlength=count)
        return found.valid / scale, by_group / scale

    found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", tol=1e-8)
    return ridge.losses(exact, ridge.best_response(exact, found.x[groups]))


def methods(
    problem: Problem, data: Data, count: int, config: Any
) -> dict[str, Callable[[], Curve]]:
    """All that can tune so many decays, by name."""
    space = shn.hyperparameters.log(float(np.exp(config.low)), float(np.exp(config.high)))
    like, steps = jnp.zeros(count), config.training_steps
    unit = steps // config.resource
    schedule = optax.cosine_decay_schedule(config.learning_rate, steps)
    found: dict[str, Search] = {
        "random search": search.random_search(space, like, steps=steps, population=20),
        "successive halving": search.successive_halving(
            space, like, population=config.resource, steps=unit, eta=config.eta
        ),
        "Hyperband": search.hyperband(
            space, like, resource=config.resource, unit_steps=unit, eta=config.eta
        ),
    }
    trainings = config.budget // steps
    points = max(2, int(trainings ** (1 / count) + 1e-9))
    if count <= CLASSES:
        found["grid search"] = search.grid_search(space, like, points=points, steps=steps)
        found["freeze-thaw"] = search.freeze_thaw(
            space, like, unit_steps=steps // config.units, units=config.units
        )
    if count < EVERY_WEIGHT:
        found["TPE"] = search.tpe(space, like, steps=steps)
        found["Bayesian optimization"] = search.bayesian(space, like, steps=steps)

    def by_search(method: Search) -> Curve:
        result = search.run(
            problem,
            method,
            data,
            optimizer=optax.adam(schedule),
            budget=config.budget,
            seeds=config.seeds,
            batch_size=config.batch_size,
        )
        grid = np.linspace(0, config.budget, config.points + 1)[1:]
        rows = [
            np.searchsorted(each.gradient_evaluations, grid, side="right") - 1
            for each in result.measured
        ]
        best = [search.best_so_far(each) for each in result.measured]
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
            np.where(row < 0, 0.0, each.seconds[row])
            for row, each in zip(rows, result.measured, strict=True)
        ]
        return Curve(grid, np.max(seconds, axis=0), valid, test)

    return {
        OURS: lambda: hyper_train_centered(problem, data, count, config),
        PAPER: lambda: hyper_train(problem, data, count, config),
    } | {name: lambda method=method: by_search(method) for name, method in found.items()}


def hyper_train_centered(problem: Problem, data: Data, count: int, config: Any) -> Curve:
    """Algorithm 3 with the Kronecker hypernet."""
    inner_steps = config.centered.inner_steps
    rounds = hyper_training.tuned_rounds(
        config.budget, inner_steps, config.batch_size, CLASSES, config.centered.refresh_every
    )
    settings = ConfigDict(config.centered.to_dict() | {"rounds": rounds})
    method = hyper_training.tuned(problem, settings)
    return _follow(problem, method, data, count, config, rounds, inner_steps)


def hyper_train(problem: Problem, data: Data, count: int, config: Any) -> Curve:
    """Algorithm 3 with the paper's hypernets."""
    weights = jax.eval_shape(problem.init, jax.random.key(0))
    hypernet, learning_rate = shn.hypernets.linear(weights), config.hypernet_learning_rate
    scale = config.sampling_scale
    if count == EVERY_WEIGHT:
        hypernet = shn.hypernets.factorized(weights, config.rank)
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
        sampler=shn.hyperparameters.local_gaussian(scale),
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
        jnp.full(count, (config.low + config.high) / 2, jnp.float32),
        steps=rounds,
        seeds=config.seeds,
        inner_steps=inner_steps,
        train_batch_size=config.batch_size,
        valid_batch_size=config.batch_size,
        eval_every=rounds // config.points,
    ).history
    # As of the searches, the best so far by validation, and the test loss there.
    leads = history.valid_loss <= np.minimum.accumulate(history.valid_loss)
    leader = np.maximum.accumulate(np.where(leads, np.arange(len(leads))[:, None], 0))[1:]
    valid, test = (
        np.take_along_axis(losses, leader, axis=0).T
        for losses in (history.valid_loss, history.test_loss)
    )
    return Curve(history.gradient_evaluations[1:, 0], history.seconds[1:], valid, test)


def _median(losses: np.ndarray) -> np.ndarray:
    """Over seeds, NaN until all have a loss."""
    return np.median(losses, axis=0)


def _claim_below(count: int, curves: dict[str, Curve]) -> dict[str, Any]:
    ours = curves[OURS]
    since = ours.evaluations >= FIRST_PART * ours.evaluations[-1]
    others = {
        name: np.interp(ours.evaluations, curve.evaluations, _median(curve.valid_loss))
        for name, curve in curves.items()
        if name not in (OURS, PAPER)
    }
    best = np.nanmin(list(others.values()), axis=0)
    below = _median(ours.valid_loss) < np.where(np.isnan(best), np.inf, best)
    ends = {name: losses[-1] for name, losses in others.items()}
    nearest = min(ends, key=lambda name: ends[name])
    test = {name: _median(curve.test_loss)[-1] for name, curve in curves.items()}
    lead = ours.evaluations[since][below[since]]
    return report.claim(
        f"{count:,} decays: hyper-training's validation loss is below every black-box method's "
        f"from the first {FIRST_PART:.0%} of the budget on.",
        f"below all of them at {np.mean(below[since]):.0%} of the points since then"
        + (f", last at {lead[-1]:,} evaluations" if lead.size else "")
        + f"; it ends at {_median(ours.valid_loss)[-1]:.5f} (test {test[OURS]:.5f}), and "
        f"{nearest}, the best of the others, at {ends[nearest]:.5f} (test {test[nearest]:.5f})",
        holds=bool(below[since].all()),
    )


def _excess(curves: dict[int, dict[str, Curve]], optima: dict[int, Losses]) -> Any:
    """Each method's final validation losses above the exact best: name -> count -> (seeds,)."""
    names = list(dict.fromkeys(itertools.chain(*curves.values())))
    return {
        name: {
            count: by_name[name].valid_loss[:, -1] - optima[count].valid
            for count, by_name in curves.items()
            if name in by_name
        }
        for name in names
    }


def _claim_many(curves: dict[int, dict[str, Curve]], optima: dict[int, Losses]) -> dict[str, Any]:
    excess = {
        name: {count: float(np.median(values)) for count, values in by_count.items()}
        for name, by_count in _excess(curves, optima).items()
    }
    best = {
        count: min(
            (by_count[count], name)
            for name, by_count in excess.items()
            if name not in (OURS, PAPER) and count in by_count
        )
        for count in curves
    }
    wins = [count for count in curves if excess[OURS][count] < best[count][0]]
    return report.claim(
        "Black-box search is competitive with few hyperparameters and not with many.",
        "median final validation loss above the exact best, hyper-training against the best "
        "search: "
        + "; ".join(
            f"{count:,} decays {excess[OURS][count]:.5f}, {name} {value:.5f}"
            for count, (value, name) in best.items()
        ),
        holds=bool(wins)
        and wins == [count for count in curves if count >= min(wins)]
        and min(wins) > min(curves),
    )


LOOKS = {
    OURS: {"color": "0.1", "linestyle": "-", "linewidth": 2.5, "marker": "o"},
    PAPER: {"color": "0.1", "linestyle": "--", "linewidth": 1.5, "marker": "X"},
    "random search": {"color": report.COLORS[0], "linestyle": "-", "marker": "s"},
    "grid search": {"color": report.COLORS[0], "linestyle": ":", "marker": "D"},
    "successive halving": {"color": report.COLORS[1], "linestyle": "-", "marker": "^"},
    "Hyperband": {"color": report.COLORS[1], "linestyle": "--", "marker": "v"},
    "TPE": {"color": report.COLORS[2], "linestyle": "-", "marker": "<"},
    "Bayesian optimization": {"color": report.COLORS[2], "linestyle": "--", "marker": ">"},
    "freeze-thaw": {"color": report.COLORS[3], "linestyle": "-", "marker": "P"},
}


def _draw(
    counts: list[int],
    curves: dict[int, dict[str, Curve]],
    optima: dict[int, Losses],
    scalar: Losses,
) -> Figure:
    figure, rows = plt.subplots(
        len(counts), 3, figsize=(13, 3.6 * len(counts) + 0.8), squeeze=False
    )
    for row, count in zip(rows, counts, strict=True):
        for name, curve in curves[count].items():
            for axes, along, losses in (
                (row[0], curve.evaluations, curve.valid_loss),
                (row[1], curve.evaluations, curve.test_loss),
                (row[2], curve.seconds, curve.valid_loss),
            ):
                _draw_curve(axes, along, losses, name)
        splits = ("valid", "test", "valid")
        for axes, split in zip(row, splits, strict=True):
            _frame(axes, count, split, curves[count], optima[count], scalar)
        row[2].set(xlabel="seconds, five seeds together", xscale="log")
    handles = {
        label: handle
        for row in rows
        for handle, label in zip(*row[0].get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    return figure


def _draw_curve(axes: Axes, along: np.ndarray, losses: np.ndarray, name: str) -> None:
    look = {key: value for key, value in LOOKS[name].items() if key != "marker"}
    low, middle, high = np.percentile(losses, (25, 50, 75), axis=0)
    axes.fill_between(along, low, high, color=look["color"], alpha=0.12, linewidth=0)
    axes.plot(along, middle, label=name, **look)


def _frame(
    axes: Axes,
    count: int,
    split: str,
    curves: dict[str, Curve],
    best: Losses,
    scalar: Losses,
) -> None:
    exact = getattr(best, split)
    axes.axhline(
        getattr(scalar, split),
        color="0.45",
        linestyle=(0, (1, 2)),
        label="exact, one decay for all",
    )
    axes.axhline(
        exact,
        color="0.45",
        linestyle=(0, (6, 2)),
        label=f"exact, these decays ({EVERY_WEIGHT:,}: {decay_problem.DESCENT_STEPS} steps)",
    )
    # From the exact best to where the searches are at a fifth of the budget.
    losses = [getattr(curve, f"{split}_loss") for curve in curves.values()]
    reached = np.nanmax([np.nanpercentile(each[:, each.shape[1] // 5], 75) for each in losses])
    low = min(exact, *(np.nanmin(each) for each in losses))
    axes.set_ylim(low - 0.05 * (reached - low), reached + 0.05 * (reached - low))
    names = {"valid": "validation", "test": "test"}
    axes.set(
        title=f"{count:,} decays",
        xlabel="gradient evaluations",
        ylabel=f"{names[split]} loss (mean squared error)",
    )


def _draw_by_count(curves: dict[int, dict[str, Curve]], optima: dict[int, Losses]) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 5))
    places = {count: i for i, count in enumerate(curves)}
    excess = _excess(curves, optima)
    for shift, (name, by_count) in zip(
        np.linspace(-0.2, 0.2, len(excess)), excess.items(), strict=True
    ):
        low, middle, high = np.percentile(list(by_count.values()), (25, 50, 75), axis=1)
        along = np.array([places[count] for count in by_count]) + shift
        look = {"markersize": 5} | LOOKS[name]
        axes.errorbar(
            along, middle, (middle - low, high - middle), label=name, elinewidth=1, **look
        )
    # A hypernet's weights may validate better than the best response to the best decays.
    axes.axhline(0, color="0.45", linestyle=(0, (6, 2)))
    axes.set(
        xlabel="decays",
        ylabel="validation loss above the exact best (MSE)",
        title="After equal compute: median and quartiles of the seeds",
    )
    axes.set_xticks(list(places.values()), [f"{count:,}" for count in places])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    launch.main(run)
