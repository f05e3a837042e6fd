"""Elastic nets tuned by gradients: hypergradients on the support, and what happens at the kinks.

See `_nonsmooth` for the problem. Every method's decays are judged by weights that scikit-learn's
coordinate descent finds at them.

python -m experiments.elastic_net --config=configs/elastic_net.py --workdir=DIR
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _elastic_net_plot, _launch, _nonsmooth, _plots, _results
from shohypernet import proximal
from shohypernet.batches import Data, Examples
from shohypernet.hypergradients import implicit
from shohypernet.problem import Problem, unconstrained

NAME = "elastic_net"
GRID, CROSS_VALIDATED, START = "grid", "ElasticNetCV", "start"
IMPLICIT, UNROLLED, HYPER_TRAINED = "implicit", "unrolled", "local_response"
SAME = 1e-3  # difference of two slopes between kinks, as a share of the largest
AS_GOOD = 1.01  # validation loss, as a share of the grid's


class Path(NamedTuple):
    """The first run along l1 at one l2, arrays of shape (points,).

    Attributes:
      l1: decays.
      loss: validation losses.
      slope: dL_valid/d log l1 by implicit differentiation on the support.
      difference: the same by finite differences.
      support: numbers of weights that aren't 0.
      within: whether the support stays the same over the finite difference.
    """

    l1: np.ndarray
    loss: np.ndarray
    slope: np.ndarray
    difference: np.ndarray
    support: np.ndarray
    within: np.ndarray


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune every run by every method, and look at the kinks of the first."""
    del resume  # it takes two minutes
    weights = np.repeat([1.0, 0.0], [config.active, config.features - config.active])
    runs = [_nonsmooth.draw(weights, config.sizes, config, i) for i in range(config.runs)]
    outcomes, costs = contest(runs, config)
    path = along(runs[0], config)
    figure = _elastic_net_plot.draw(outcomes, path)
    _plots.save_figure(figure, workdir, NAME)
    arrays = {
        f"{name}: {split}": values
        for name, each in outcomes.items()
        for split, values in each.items()
    }
    path_arrays = {f"path {name}": each for name, each in path._asdict().items()}
    _results.save_arrays(workdir, NAME, {**arrays, **path_arrays})
    print(table(outcomes, costs))
    return {
        "claims": claims(outcomes, path),
        "outcomes": {
            name: {split: values.tolist() for split, values in each.items()}
            for name, each in outcomes.items()
        },
        "gradient_evaluations": costs,
    }


def build(config: Any) -> Problem:
    """The problem, its decays between bounds."""
    space = shn.hyperparameters.log(config.low, config.high)
    return _nonsmooth.problem(config.features, proximal.elastic_net(), space)


def solve(examples: Examples, decays: dict[str, Any]) -> np.ndarray:
    """Weights by scikit-learn's coordinate descent, shape (p,)."""
    from sklearn.linear_model import ElasticNet

    l1, l2 = float(decays["l1"]), float(decays["l2"])
    model = ElasticNet(
        alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=1e-8, max_iter=100_000
    )
    return model.fit(examples.inputs, examples.targets).coef_


def contest(
    runs: list[Data], config: Any
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, int]]:
    """Errors of every run by method and split, and gradient evaluations of a run by method."""
    start = {name: np.full(len(runs), value) for name, value in config.start.items()}
    outcomes = {START: _nonsmooth.errors(solve, runs, start)}
    print(f"{GRID}: {config.grid} by {config.grid}, {len(runs)} runs.")
    outcomes[GRID] = _by_grid(runs, config)
    print(f"{CROSS_VALIDATED}.")
    outcomes[CROSS_VALIDATED] = _cross_validated(runs)
    costs = {}
    problem = build(config)
    largest = max(_nonsmooth.curvature(data.train) for data in runs)
    for name in (IMPLICIT, UNROLLED, HYPER_TRAINED):
        print(f"{name}.")
        again = name == UNROLLED
        rounds, steps = (
            (config.unrolled_rounds, config.unrolled_steps)
            if again
            else (config.rounds, config.inner_steps)
        )
        made = method(name, problem, largest, rounds, steps, config)
        path, evaluations = _nonsmooth.tuned(made, runs, config.start.to_dict(), rounds, steps)
        chosen = jax.tree.map(lambda leaf: leaf[-1], path)
        outcomes[name] = _nonsmooth.errors(solve, runs, chosen) | chosen
        costs[name] = int(evaluations[-1])
    return outcomes, costs


def method(
    name: str, problem: Problem, largest: float, rounds: int, steps: int, config: Any
) -> shn.HyperOptimizer:
    """The method of a name.

    Args:
      name: of it.
      problem: to tune.
      largest: curvature of the smooth part of the training loss.
      rounds: of the method.
      steps: inner steps of each.
      config: of the experiment.
    """
    schedule = optax.cosine_decay_schedule(config.hyper_learning_rate, rounds)
    hyper_optimizer = optax.adam(schedule)
    if name == HYPER_TRAINED:
        learning_rate = optax.cosine_decay_schedule(config.hypernet_learning_rate, rounds * steps)
        return shn.local_response(
            problem,
            shn.hypernets.linear(),
            hypernet_optimizer=optax.adam(learning_rate),
            hyper_optimizer=hyper_optimizer,
            sampler=shn.samplers.local_gaussian(config.sampling_scale),
        )
    # The prox has the penalty's own curvature, l2, in it, and no step size is too large for it.
    optimizer = proximal.gradient(proximal.elastic_net(), 1 / largest)
    if name == UNROLLED:
        return shn.unrolled(problem, optimizer=optimizer, hyper_optimizer=hyper_optimizer)
    solver = shn.linear_solvers.conjugate_gradient(config.products)
    return shn.implicit(
        problem, optimizer=optimizer, hyper_optimizer=hyper_optimizer, solver=solver
    )


def _by_grid(runs: list[Data], config: Any) -> dict[str, np.ndarray]:
    """The pair of the grid that validates best, for each run."""
    side = np.geomspace(config.low, config.high, config.grid)
    pairs = [{"l1": l1, "l2": l2} for l1 in side for l2 in side]
    best = []
    for data in runs:
        losses = [
            _nonsmooth.mean_squared_error(solve(data.train, pair), data.valid) for pair in pairs
        ]
        best.append(pairs[int(np.argmin(losses))])
    chosen = {name: np.asarray([pair[name] for pair in best]) for name in ("l1", "l2")}
    return _nonsmooth.errors(solve, runs, chosen) | chosen


def _cross_validated(runs: list[Data]) -> dict[str, np.ndarray]:
    """Test errors of scikit-learn's five folds over training and validation examples together."""
    from sklearn.linear_model import ElasticNetCV

    test, ratios = [], [0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0]
    for data in runs:
        model: Any = ElasticNetCV(fit_intercept=False, max_iter=10_000)
        model.set_params(l1_ratio=ratios)
        weights = model.fit(*_nonsmooth.both(data)).coef_
        test.append(_nonsmooth.mean_squared_error(weights, data.test))
    return {"refitted": np.asarray(test)}


def along(data: Data, config: Any) -> Path:
    """Losses and slopes of one run along l1, from exact weights."""
    l1 = np.geomspace(0.05, 1.0, config.path_points)
    weights = np.stack([solve(data.train, {"l1": each, "l2": config.path_l2}) for each in l1])
    loss = np.asarray([_nonsmooth.mean_squared_error(w, data.valid) for w in weights])
    on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), data)
    space = shn.hyperparameters.log()
    problem = unconstrained(_nonsmooth.problem(config.features, proximal.elastic_net(), space))

    @jax.jit
    @jax.vmap
    def slope(log_l1: jax.Array, params: jax.Array) -> jax.Array:
        found = implicit.hypergradient(
            problem,
            {"l1": log_l1, "l2": jnp.log(config.path_l2)},
            params,
            on_device.train,
            on_device.valid,
            jax.random.key(0),
            solver=shn.linear_solvers.conjugate_gradient(2 * config.features),
            support=proximal.support(params),
        )
        return found.gradient["l1"]

    slopes = slope(jnp.asarray(np.log(l1), jnp.float32), jnp.asarray(weights, jnp.float32))
    signs = np.sign(weights)
    alike = np.all(signs[1:] == signs[:-1], axis=1)
    within = np.concatenate([[False], alike[1:] & alike[:-1], [False]])
    difference = np.gradient(loss, np.log(l1))
    support = np.count_nonzero(weights, axis=1)
    return Path(l1, loss, np.asarray(slopes), difference, support, within)


def claims(outcomes: dict[str, dict[str, np.ndarray]], path: Path) -> list[dict[str, Any]]:
    """Claims about slopes, validation losses and test errors."""
    grid, cross = outcomes[GRID], outcomes[CROSS_VALIDATED]["refitted"]
    ours = outcomes[IMPLICIT]
    ratio = ours["valid"].mean() / grid["valid"].mean()
    off = np.abs(path.slope - path.difference) / np.max(np.abs(path.difference))
    between = float(np.max(off[path.within], initial=0.0))
    jumps = np.abs(np.diff(path.slope))[~(path.within[1:] & path.within[:-1])]
    largest = float(np.max(jumps, initial=0.0) / np.max(np.abs(path.slope)))
    steps = float(np.max(np.abs(np.diff(path.loss))) / np.ptp(path.loss))
    gap = ours["refitted"] - cross
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    means = {name: each["refitted"].mean() for name, each in outcomes.items()}
    return [
        _results.claim(
            "The implicit hypergradient on the support is the slope of the validation loss where "
            "the support stays the same; where it changes the slope jumps, the loss does not.",
            f"{between:.1g} of the largest slope apart at {path.within.sum()} of "
            f"{len(path.l1)} points; the largest jump of the slope is {largest:.2f} of the largest "
            f"slope, the largest step of the loss {steps:.3f} of its range",
            holds=between < SAME and steps < 0.05,
        ),
        _results.claim(
            "Tuned along it, elastic nets validate as well as those of the grid, on average.",
            f"validation loss {ours['valid'].mean():.3f} against {grid['valid'].mean():.3f} "
            f"({ratio:.3f} of it), no worse in {np.sum(ours['valid'] <= AS_GOOD * grid['valid'])} "
            f"of {len(grid['valid'])} runs",
            holds=ratio <= AS_GOOD,
        ),
        _results.claim(
            "Fitted again on training and validation examples, their test errors are those of the "
            "grid and of ElasticNetCV, within 2 %.",
            f"{means[IMPLICIT]:.2f}; grid {means[GRID]:.2f}, ElasticNetCV "
            f"{means[CROSS_VALIDATED]:.2f} (ours above it by {gap.mean():.2f} ± {error:.2f}), "
            f"unrolled {means[UNROLLED]:.2f}, local_response {means[HYPER_TRAINED]:.2f}",
            holds=means[IMPLICIT] <= 1.02 * min(means[GRID], means[CROSS_VALIDATED]),
        ),
    ]


def table(outcomes: dict[str, dict[str, np.ndarray]], costs: dict[str, int]) -> str:
    """Means and standard errors over the runs, as a table in plain text."""
    splits = {"valid": "validation loss", "test": "test error", "refitted": "of all examples"}
    rows = [f"{'':16}" + "".join(f"{name:>18}" for name in splits.values()) + "   gradients"]
    for name, each in outcomes.items():
        cells = (_with_error(each[split]) if split in each else "" for split in splits)
        cost = f"{costs[name]:,}" if name in costs else ""
        rows.append(f"{name:16}" + "".join(f"{cell:>18}" for cell in cells) + f"{cost:>12}")
    return "\n".join(rows)


def _with_error(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    _launch.main(run)
