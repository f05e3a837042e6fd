"""Elastic nets tuned by gradients: hypergradients on the support, and what happens at the kinks.

See `_nonsmooth` for the problem. Every method's decays are judged by weights that scikit-learn's
coordinate descent finds at them.

python -m experiments.elastic_net --config=configs/elastic_net.py --workdir=DIR
"""

import pathlib
from typing import Any

import jax
import numpy as np
import optax

import shohypernet as shn
from experiments import (
    _elastic_net_path,
    _elastic_net_plot,
    _launch,
    _nonsmooth,
    _plots,
    _results,
)
from experiments._elastic_net_path import Path
from shohypernet import proximal
from shohypernet.batches import Data, Examples
from shohypernet.problem import Problem

NAME = "elastic_net"
GRID, CROSS_VALIDATED, START = "grid", "ElasticNetCV", "start"
IMPLICIT, UNROLLED, HYPER_TRAINED = "implicit", "unrolled", "local_response"
FOLDED = "implicit, folds"
AS_GOOD = 1.01  # validation loss, as a share of the grid's


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Tune every run by every method, and look at the kinks of the first."""
    del resume  # it takes two minutes
    weights = np.repeat([1.0, 0.0], [config.active, config.features - config.active])
    runs = [_nonsmooth.draw(weights, config.sizes, config, i) for i in range(config.runs)]
    outcomes, costs = contest(runs, config)
    path = _elastic_net_path.along(solve, runs[0], config)
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
        "main": {
            f"{name}, {split}": float(outcomes[name][split].mean())
            for name in (GRID, IMPLICIT)
            for split in ("valid", "test")
        },
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
    for name in (IMPLICIT, FOLDED, UNROLLED, HYPER_TRAINED):
        print(f"{name}.")
        again = name == UNROLLED
        rounds, steps = (
            (config.unrolled_rounds, config.unrolled_steps)
            if again
            else (config.rounds, config.inner_steps)
        )
        made, splits = contender(name, runs, rounds, steps, config)
        path, evaluations = _nonsmooth.tuned(made, splits, config.start.to_dict(), rounds, steps)
        chosen = jax.tree.map(lambda leaf: leaf[-1], path)
        outcomes[name] = _nonsmooth.errors(solve, runs, chosen) | chosen
        costs[name] = int(evaluations[-1])
    return outcomes, costs


def contender(
    name: str, runs: list[Data], rounds: int, steps: int, config: Any
) -> tuple[shn.HyperOptimizer, list[Data]]:
    """The method of a name, and each run's examples as it wants them."""
    problem = build(config)
    hyper_optimizer = optax.adam(optax.cosine_decay_schedule(config.hyper_learning_rate, rounds))
    if name != FOLDED:
        largest = max(_nonsmooth.curvature(data.train.inputs) for data in runs)
        return method(name, problem, hyper_optimizer, largest, rounds * steps, config), runs
    folds = shn.cross_validation(problem, config.folds)
    splits = [folds.split(_nonsmooth.both(data)) for data in runs]
    by_fold = [np.moveaxis(np.asarray(data.train.inputs), 1, 0) for data in splits]
    largest = max(map(_nonsmooth.curvature, by_fold))

    def build_one(hyper_optimizer: optax.GradientTransformation) -> shn.HyperOptimizer:
        return method(IMPLICIT, problem, hyper_optimizer, largest, rounds * steps, config)

    return folds.method(build_one, hyper_optimizer), splits


def method(
    name: str,
    problem: Problem,
    hyper_optimizer: optax.GradientTransformation,
    largest: float,
    steps: int,
    config: Any,
) -> shn.HyperOptimizer:
    """The method of a name.

    Args:
      name: of it.
      problem: to tune.
      hyper_optimizer: of the decays.
      largest: curvature of the smooth part of the training loss.
      steps: of the weights or the hypernet, in all.
      config: of the experiment.
    """
    if name == HYPER_TRAINED:
        learning_rate = optax.cosine_decay_schedule(config.hypernet_learning_rate, steps)
        return shn.local_response(
            problem,
            shn.hypernets.linear(init_scale=shn.hypernets.PAPER_INIT_SCALE),
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


def claims(outcomes: dict[str, dict[str, np.ndarray]], path: Path) -> list[dict[str, Any]]:
    """Claims about slopes, validation losses and test errors."""
    grid, cross = outcomes[GRID], outcomes[CROSS_VALIDATED]["refitted"]
    ours = outcomes[IMPLICIT]
    ratio = ours["valid"].mean() / grid["valid"].mean()
    folded = outcomes[FOLDED]["refitted"]
    gap = folded - cross
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    means = {name: each["refitted"].mean() for name, each in outcomes.items()}
    return [
        _elastic_net_path.claim(path),
        _results.claim(
            "Tuned along it, elastic nets validate as well as those of the grid, on average.",
            f"validation loss {ours['valid'].mean():.3f} against {grid['valid'].mean():.3f} "
            f"({ratio:.3f} of it), no worse in {np.sum(ours['valid'] <= AS_GOOD * grid['valid'])} "
            f"of {len(grid['valid'])} runs",
            holds=ratio <= AS_GOOD,
        ),
        _results.claim(
            "Fitted again on training and validation examples, their test errors are those of the "
            "grid, within 2 %.",
            f"{means[IMPLICIT]:.2f}; grid {means[GRID]:.2f}, unrolled {means[UNROLLED]:.2f}, "
            f"local_response {means[HYPER_TRAINED]:.2f}",
            holds=means[IMPLICIT] <= 1.02 * means[GRID],
        ),
        _results.claim(
            "Where its validation loss is that of five folds, the test error is that of "
            "ElasticNetCV, which has as many, within 2 %.",
            f"{folded.mean():.2f}; ElasticNetCV {cross.mean():.2f} (ours {gap.mean():+.2f} ± "
            f"{error:.2f})",
            holds=folded.mean() <= 1.02 * cross.mean(),
        ),
    ]


def table(outcomes: dict[str, dict[str, np.ndarray]], costs: dict[str, int]) -> str:
    """Means and standard errors over the runs, as a table in plain text."""
    splits = {"valid": "validation loss", "test": "test error", "refitted": "of all examples"}
    rows = []
    for name, each in outcomes.items():
        cells = (_with_error(each[split]) if split in each else "-" for split in splits)
        rows.append([name, *cells, f"{costs[name]:,}" if name in costs else "-"])
    return _results.table(["", *splits.values(), "gradients"], rows)


def _with_error(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    _launch.main(run)
