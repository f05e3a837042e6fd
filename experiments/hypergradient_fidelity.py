"""How true each method's hypergradient is, and what it costs, where the exact one is known.

The linear model with a decay for each of its 7,850 weights (see `decay_problem`), at
λ = level + N(0, 1): cosine and norm ratio of every estimate to the closed form, against gradient
evaluations, seconds and peak memory. How a method with a small budget fares depends on the draw of
N(0, 1), so at the main level there are several. Implicit methods are given the best response w*(λ),
of whose cost nothing is counted; unrolled ones and hypernets start from fresh weights and pay for
all.

python -m experiments.hypergradient_fidelity --config=configs/hypergradient_fidelity.py \
  --workdir=DIR
"""

import functools
import itertools
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import shohypernet as shn
from experiments import decay_problem, launch, report
from shohypernet import hypergradients, hypernets, jacobians, ridge
from shohypernet.batches import Data, minibatch
from shohypernet.hypergradients._inner import Inner
from shohypernet.hypernets import Hypernet, Jacobian
from shohypernet.linear_solvers import conjugate_gradient, identity, neumann
from shohypernet.problem import Problem

MOMENTUM = 0.9
MARKS = "osD^vP*X<>dhp8H1"
MEGABYTE = 2**20
CLAIMED = "conjugate gradients", 50, 0.99  # method, budget, least cosine at the main level
HYPERNET_LEAST = 0.95
PAPER, KRONECKER = "hypernet, factorized (paper)", "centered, Kronecker"


class Point(NamedTuple):
    """Where hypergradients are compared.

    Attributes:
      hyperparams: λ, a log decay for each weight, shaped like the weights.
      params: w*(λ).
      sharpness: the largest eigenvalue of the training loss's Hessian there.
      data: the three splits.
      key: for what a method draws.
    """

    hyperparams: Any
    params: Any
    sharpness: jax.Array
    data: Data
    key: jax.Array


class Entry(NamedTuple):
    """One estimate to be judged.

    Attributes:
      method: its name in the legend.
      budget: how much it may do, a point on the method's line.
      hypergradient: `hypergradient(point) -> (gradient, gradient evaluations)`, a pure function.
      batch_size: examples in each of those evaluations; None for the whole training set.
    """

    method: str
    budget: int
    hypergradient: Callable[[Point], tuple[Any, Any]]
    batch_size: int | None = None


class Row(NamedTuple):
    """What was found of an entry at one point.

    Attributes:
      method: of the entry.
      budget: of the entry.
      level: the mean of λ.
      draw: the number of the draw of N(0, 1).
      cosine: to the exact hypergradient.
      norm_ratio: of the estimate to the exact one.
      evaluations: gradient evaluations.
      passes: the same in units of the whole training set.
      seconds: of one compiled call.
      megabytes: that the compiled call needs besides the data.
    """

    method: str
    budget: int
    level: float
    draw: int
    cosine: float
    norm_ratio: float
    evaluations: int
    passes: float
    seconds: float
    megabytes: float


def entries(problem: Problem, config: Any) -> list[Entry]:
    """Every method at each of its budgets."""
    return [
        *_implicit(problem, config),
        *_unrolled(problem, config),
        *_hypernets(problem, config),
    ]


def _hypernets(problem: Problem, config: Any) -> Iterable[Entry]:
    """Hyper-training as in the paper, and with hypernets centered at λ̂."""
    weights = jax.eval_shape(problem.init, jax.random.key(0))

    def adam(steps: int, rate: float) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(rate, steps))

    def paper(hypernet: Hypernet) -> Callable[..., Any]:
        return lambda steps: functools.partial(
            shn.local_response,
            hypernet=hypernet,
            hypernet_optimizer=optax.adam(config.hypernet_learning_rate),
            sampler=shn.hyperparameters.local_gaussian(config.sampling_scale),
            samples=2,
        )

    def centered(jacobian: Callable[[int], Jacobian]) -> Callable[..., Any]:
        return lambda steps: functools.partial(
            shn.centered_response,
            jacobian=jacobian(steps),
            optimizer=adam(steps, config.weights_learning_rate),
        )

    def learned(hypernet: Hypernet) -> Callable[..., Any]:
        return centered(
            lambda steps: jacobians.linearized(
                problem, hypernet, optimizer=adam(steps, config.jacobian_learning_rate), samples=2
            )
        )

    def kronecker(iterations: int) -> Callable[..., Any]:
        return centered(lambda steps: jacobians.kronecker(problem, iterations=iterations))

    for name, build in {
        PAPER: paper(hypernets.factorized(weights)),
        "hypernet, structured (STN)": paper(hypernets.structured(weights)),
        "centered, factorized": learned(hypernets.factorized(weights)),
        "centered, structured (Delta-STN)": learned(hypernets.structured(weights)),
        "centered, elementwise": learned(hypernets.elementwise(weights)),
        "centered, Kronecker, 1 iteration": kronecker(1),
        KRONECKER: kronecker(config.kronecker_iterations),
    }.items():
        for steps in config.hypernet_steps:
            yield hypernet_entry(problem, name, steps, config, build(steps))


def hypernet_entry(
    problem: Problem,
    method: str,
    steps: int,
    config: Any,
    build: Callable[..., shn.HyperOptimizer],
) -> Entry:
    """A method of hyper-training after a number of inner steps at the same λ.

    Args:
      problem: what is tuned.
      method: the name of its line.
      steps: inner steps, in rounds of `config.hypernet_inner_steps`.
      config: batch sizes.
      build: `build(problem, hyper_optimizer=…)`, whose state has a `hyper_opt_state`.
    """
    rounds = -(-steps // config.hypernet_inner_steps)
    tuner = build(problem, hyper_optimizer=recorder())

    def hypergradient(point: Point) -> tuple[Any, jax.Array]:
        def a_round(state: Any, key: jax.Array, valid_batch: Any) -> tuple[Any, jax.Array]:
            key_batch, key_step = jax.random.split(key)
            size = config.hypernet_inner_steps, config.batch_size
            train_batches = minibatch(key_batch, point.data.train, size)
            state, info = tuner.step(key_step, state, train_batches, valid_batch)
            return state, info.gradient_evaluations

        def early(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            key_valid, key_round = jax.random.split(key)
            return a_round(state, key_round, minibatch(key_valid, point.data.valid, 1))

        key_init, key_last, key_rounds = jax.random.split(point.key, 3)
        state = tuner.init(key_init, point.hyperparams)
        # λ stands still, so only the last gradient with respect to it is worth all the images.
        state, counts = jax.lax.scan(early, state, jax.random.split(key_rounds, rounds - 1))
        state, last = a_round(state, key_last, point.data.valid)
        return state.hyper_opt_state, jnp.sum(counts) + last

    return Entry(method, steps, hypergradient, config.batch_size)


def recorder() -> optax.GradientTransformation:
    """An optimizer that moves nothing, and whose state is the last gradient."""

    def init(params: Any) -> Any:
        return optax.tree.zeros_like(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del state, params
        return optax.tree.zeros_like(updates), updates

    return optax.GradientTransformation(init, update)


def _implicit(problem: Problem, config: Any) -> Iterable[Entry]:
    def entry(
        method: str, budget: int, solver: Callable[[Point], Any], batch_size: int | None = None
    ) -> Entry:
        def hypergradient(point: Point) -> tuple[Any, Any]:
            made = hypergradients.implicit.hypergradient(
                problem,
                point.hyperparams,
                point.params,
                minibatch(point.key, point.data.train, batch_size),
                point.data.valid,
                point.key,
                solver=solver(point),
            )
            return made.gradient, made.gradient_evaluations

        return Entry(method, budget, hypergradient, batch_size)

    yield entry("identity (T1-T2)", 0, lambda point: identity())
    for terms in config.neumann_terms:
        yield entry("Neumann", terms, lambda point, n=terms: neumann(n, 1 / point.sharpness))
    for steps in config.cg_steps:
        yield entry("conjugate gradients", steps, lambda point, n=steps: conjugate_gradient(n))
    for steps in config.cg_steps:
        name = f"conjugate gradients, {config.batch_size:,} examples"
        yield entry(name, steps, lambda point, n=steps: conjugate_gradient(n), config.batch_size)


def _unrolled(problem: Problem, config: Any) -> Iterable[Entry]:
    """Training from fresh weights by heavy ball with α = 1/λ_max, and its derivative."""

    def entry(method: str, steps: int, estimate: Callable[..., Any]) -> Entry:
        def hypergradient(point: Point) -> tuple[Any, Any]:
            def train_loss(params: Any, hyperparams: Any, _: Any, key: jax.Array) -> jax.Array:
                return problem.train_loss(params, hyperparams, point.data.train, key)

            # A batch for each step would be so many copies of the training set.
            whole = problem._replace(train_loss=train_loss)
            params = problem.init(point.key)
            arguments = jnp.zeros(steps), point.data.valid, point.key
            made = estimate(whole, point, params, *arguments)
            return made.gradient, made.gradient_evaluations

        return Entry(method, steps, hypergradient)

    def by(module: Any, tenths: int = 10) -> Callable[..., Any]:
        def estimate(
            whole: Problem, point: Point, params: Any, steps: jax.Array, *rest: Any
        ) -> Any:
            optimizer = optax.sgd(1 / point.sharpness, momentum=MOMENTUM)
            inner = Inner(params, optimizer.init(params))
            options = {"backward_steps": max(1, len(steps) * tenths // 10)} if tenths < 10 else {}
            return module.hypergradient(
                whole, optimizer, point.hyperparams, inner, steps, *rest, **options
            )

        return estimate

    def reversed_exactly(whole: Problem, point: Point, params: Any, *rest: Any) -> Any:
        inner = Inner(params, hypergradients.reversible.Momentum(1 / point.sharpness))
        return hypergradients.reversible.hypergradient(
            whole, MOMENTUM, point.hyperparams, inner, *rest
        )

    for steps in config.unrolled_steps:
        yield entry("unrolled", steps, by(hypergradients.unrolled))
        yield entry("reversible", steps, reversed_exactly)
        yield entry("DrMAD", steps, by(hypergradients.drmad))
        yield entry("unrolled, last tenth", steps, by(hypergradients.unrolled, tenths=1))


def points(problem: Problem, data: Data, config: Any) -> dict[tuple[float, int], tuple[Point, Any]]:
    """The point of each level and draw, with its exact hypergradient."""
    exact, found = ridge.ridge(data), {}
    sharpness = jax.jit(lambda *arguments: shn.diagnostics.sharpness(problem, *arguments))
    for number, level in enumerate(config.levels):
        for draw in range(config.draws if level == config.main_level else 1):
            key = jax.random.fold_in(jax.random.key(draw), number)
            key_noise, key_sharpness, key_method = jax.random.split(key, 3)
            noise = jax.random.normal(key_noise, exact.train.cross.shape)
            decay = level + np.asarray(noise, np.float64)
            hyperparams = decay_problem.from_ridge(decay)
            params = decay_problem.from_ridge(ridge.best_response(exact, decay))
            steepest = sharpness(params, hyperparams, data.train, key_sharpness)
            point = Point(hyperparams, params, steepest, data, key_method)
            _, gradient = ridge.hypergradient(exact, decay)
            found[level, draw] = point, decay_problem.from_ridge(gradient)
    return found


def judge(entry: Entry, points: dict[tuple[float, int], tuple[Point, Any]]) -> Iterable[Row]:
    """Compiles an entry once, and tries it at every point."""
    first, _ = next(iter(points.values()))
    compiled = jax.jit(entry.hypergradient).lower(first).compile()
    memory: Any = compiled.memory_analysis()
    examples = len(first.data.train.inputs)
    for (level, draw), (point, exact) in points.items():
        began = time.perf_counter()
        gradient, evaluations = jax.block_until_ready(compiled(point))
        seconds = time.perf_counter() - began
        yield Row(
            entry.method,
            entry.budget,
            level,
            draw,
            float(shn.diagnostics.cosine(gradient, exact)),
            float(shn.diagnostics.norm_ratio(gradient, exact)),
            int(evaluations),
            int(evaluations) * (entry.batch_size or examples) / examples,
            seconds,
            (memory.temp_size_in_bytes + memory.output_size_in_bytes) / MEGABYTE,
        )


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Judges every entry at every point, and draws what was found."""
    del resume  # a few minutes' work, all in memory
    data = decay_problem.load_data(config)
    problem = decay_problem.problem_on(data)
    where = points(problem, data, config)
    rows: list[Row] = []
    for entry in entries(problem, config):
        found = list(judge(entry, where))
        rows += found
        cosines = "  ".join(
            f"{level:g}: {_mean(found, 'cosine', level):6.3f}" for level in config.levels
        )
        print(f"{entry.method:<36}{entry.budget:>6}  cosine at {cosines}", flush=True)

    report.save_figure(_draw(rows, config.main_level), workdir, "hypergradient_fidelity")
    report.save_figure(_draw_levels(rows, config), workdir, "hypergradient_fidelity_by_level")
    table = {field: np.array([row[i] for row in rows]) for i, field in enumerate(Row._fields)}
    report.save_arrays(workdir, "hypergradient_fidelity", table)
    return {
        "claims": [_claim(rows, config), _claim_hypernet(rows, config)],
        "rows": [row._asdict() for row in rows],
        "sharpness": {
            f"{level:g}, draw {draw}": float(point.sharpness)
            for (level, draw), (point, _) in where.items()
        },
    }


def _claim(rows: list[Row], config: Any) -> dict[str, Any]:
    method, budget, least = CLAIMED
    level = config.main_level
    found = [row for row in rows if row[:3] == (method, budget, level)]
    cosines = [row.cosine for row in found]
    return report.claim(
        f"At λ = {level:g}, {budget} products of conjugate gradients, each with the whole training "
        f"set, give a cosine of {least} or more.",
        ", ".join(f"{cosine:.4f}" for cosine in cosines),
        holds=bool(cosines) and min(cosines) >= least,
    )


def _claim_hypernet(rows: list[Row], config: Any) -> dict[str, Any]:
    level, steps = config.main_level, config.hypernet_steps[-1]
    found = {
        method: [row.cosine for row in rows if row[:3] == (method, steps, level)]
        for method in (PAPER, KRONECKER)
    }
    shown = {name: ", ".join(f"{cosine:.3f}" for cosine in each) for name, each in found.items()}
    return report.claim(
        f"At λ = {level:g}, a hypernet gives a cosine of {HYPERNET_LEAST} or more after {steps:,} "
        "training steps.",
        f"centered, Kronecker: {shown[KRONECKER]}; the paper's factorized: {shown[PAPER]}",
        holds=bool(found[KRONECKER]) and min(found[KRONECKER]) >= HYPERNET_LEAST,
    )


def _mean(rows: list[Row], field: str, level: float) -> float:
    return float(np.mean([getattr(row, field) for row in rows if row.level == level]))


def _looks(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """A look for each method: no two share marker and color, and gray leaves the markers."""
    methods = list(dict.fromkeys(row.method for row in rows))
    styles = itertools.product(report.STYLES, report.COLORS)
    return {
        method: {"marker": mark, "color": color, "linestyle": style, "label": method}
        for method, mark, (style, color) in zip(methods, itertools.cycle(MARKS), styles)
    }


def _line(axes: Any, rows: list[Row], x: str, y: str, look: dict[str, Any]) -> None:
    """Means over the draws, with bars to the least and the greatest."""
    budgets = list(dict.fromkeys(row.budget for row in rows))
    found = [[row for row in rows if row.budget == budget] for budget in budgets]
    across = [np.mean([getattr(row, x) for row in each]) for each in found]
    values = [[getattr(row, y) for row in each] for each in found]
    middle = np.array([np.mean(each) for each in values])
    reach = np.abs([[np.min(each), np.max(each)] for each in values] - middle[:, None]).T
    axes.errorbar(
        across, middle, reach, **look, markersize=5, linewidth=1, elinewidth=0.7, capsize=2
    )


def _draw(rows: list[Row], level: float) -> Any:
    """At one level: cosine and norm ratio, against the three costs."""
    here = [row for row in rows if row.level == level]
    costs = {
        "passes": "gradient evaluations (whole training sets)",
        "seconds": "seconds",
        "megabytes": "peak memory besides the data (MiB)",
    }
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), sharex="col", sharey="row")
    for column, (cost, label) in enumerate(costs.items()):
        for method, look in _looks(rows).items():
            mine = [row for row in here if row.method == method]
            _line(axes[0, column], mine, cost, "cosine", look)
            _line(axes[1, column], mine, cost, "norm_ratio", look)
        axes[1, column].axhline(1, color="0.4", linestyle=":")
        axes[1, column].set(xlabel=label, xscale="log", yscale="log")
    axes[0, 0].set_ylabel("cosine to the exact hypergradient")
    axes[1, 0].set_ylabel("norm, as a multiple of the exact one's")
    figure.suptitle(rf"Hypergradients at $\lambda = {level:g} + \mathcal{{N}}(0, 1)$")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


def _draw_levels(rows: list[Row], config: Any) -> Any:
    """At every level: the cosine against gradient evaluations."""
    figure, axes = plt.subplots(
        1, len(config.levels), figsize=(13, 5), sharex=True, sharey=True, squeeze=False
    )
    for panel, level in zip(axes[0], config.levels, strict=True):
        for method, look in _looks(rows).items():
            mine = [row for row in rows if row.method == method and row.level == level]
            _line(panel, mine, "passes", "cosine", look)
        panel.set(
            title=rf"$\lambda = {level:g} + \mathcal{{N}}(0, 1)$",
            xlabel="gradient evaluations (whole training sets)",
            xscale="log",
        )
    axes[0, 0].set_ylabel("cosine to the exact hypergradient")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


if __name__ == "__main__":
    launch.main(run)
