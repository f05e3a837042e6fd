r"""Of our own: the wider a hypernet is, the nearer it comes to the best response.

python -m experiments.hypernet_capacity --config=configs/hypernet_capacity.py --workdir=DIR

The paper's theorem: a universal approximator that minimizes E_{p(λ)} L_train(w_φ(λ), λ) gives the
best response at every λ in the support. Here p(λ) is uniform, w_φ has one hidden layer of ReLUs,
and the best response is known for two problems of one λ and 7,850 weights:

    norm:   NLL(ten images, w) + exp(λ)‖w‖₂, by training to convergence (experiments/_small_problem)
    ridge:  MSE(many images, w) + exp(λ)‖w‖₂²/10, w*(λ) = (A + exp(λ) I)⁻¹ B
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _principal_axes, _results, _small_problem
from experiments._first_phase import train_hypernet
from shohypernet.batches import Data
from shohypernet.diagnostics import best_response_error
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem

NAME = "hypernet_capacity"
LABELS = {"norm": "ten images, norm penalty", "ridge": "many images, ridge"}


class Case(NamedTuple):
    """A problem whose best response is known on a grid.

    Attributes:
      problem: with one decay, of which λ is the logarithm.
      data: its training examples, in all three splits, for nothing here is validated.
      grid: λ, shape (G,), over the support of p(λ).
      best: w*(λ), the weights with a leading axis of G.
    """

    problem: Problem
    data: Data
    grid: jax.Array
    best: Any


class Errors(NamedTuple):
    """Means over the grid, each of shape (seeds,).

    Attributes:
      relative: ‖w_φ(λ) − w*(λ)‖ / ‖w*(λ)‖.
      excess: L_train(w_φ(λ), λ) − L_train(w*(λ), λ).
    """

    relative: Any
    excess: Any


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train a hypernet of each width on each problem, and compare it with the best response."""
    _require_sensible(config)
    data = shn.datasets.load(
        config.data,
        train=max(config.norm_examples, config.ridge_examples),
        valid=1,
        test=1,
        directory=config.directory or None,
    )
    errors, seconds = {}, {}
    for name, build in {"norm": norm_case, "ridge": ridge_case}.items():
        case = build(data, config)
        found, spent = [], []
        for width in config.widths:
            print(f"{LABELS[name]}: a hypernet of width {width}.")
            hypernet = shn.hypernets.mlp((width,), init_scale=shn.hypernets.PAPER_INIT_SCALE)
            result = train_hypernet(
                case.problem,
                hypernet,
                shn.samplers.uniform(float(case.grid[0]), float(case.grid[-1])),
                case.data,
                jnp.exp(jnp.mean(case.grid)),
                config,
                workdir / f"{name}_{width}",
                rounds=config.steps // config.inner_steps,
                seeds=config.seeds,
                resume=resume,
            )
            found.append(measure(case, hypernet, result.state.hypernet_params))
            spent.append(float(result.history.seconds[-1]))
        errors[name] = Errors(*map(np.stack, zip(*found, strict=True)))
        seconds[name] = spent

    widths = np.array(config.widths)
    _plots.save_figure(_draw(widths, errors), workdir, NAME)
    arrays = {
        f"{name}_{field}": value
        for name, each in errors.items()
        for field, value in each._asdict().items()
    }
    _results.save_arrays(workdir, NAME, {"widths": widths, **arrays})
    return {
        "main": {
            f"error of the widest, {name}": each.relative[-1].tolist()
            for name, each in errors.items()
        },
        "claims": [claim(LABELS[name], widths, each) for name, each in errors.items()],
        **{name: value.tolist() for name, value in arrays.items()},
        "widths": widths.tolist(),
        "gradient_evaluations_of_each": config.steps * config.samples,
        "seconds_by_width": seconds,
    }


def _require_sensible(config: Any) -> None:
    if config.steps % config.inner_steps or list(config.widths) != sorted({*config.widths}):
        raise ValueError(
            "inner_steps must divide steps, and widths rise, got "
            f"{config.inner_steps}, {config.steps} and {config.widths}."
        )


def norm_case(data: Data, config: Any) -> Case:
    """The paper's small problem, with best responses from training to convergence."""
    examples = jax.tree.map(lambda leaf: leaf[: config.norm_examples], data.train)
    data = Data(examples, examples, examples)
    problem = _small_problem.problem_on(data)
    grid = jnp.linspace(config.norm_low, config.norm_high, config.grid_points)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.cross_learning_rate, config.cross_steps)
    )

    @jax.jit
    @jax.vmap
    def best(hyperparams: jax.Array) -> Any:
        steps = config.cross_steps
        return _small_problem.converged(problem, optimizer, hyperparams, examples, steps)

    return Case(problem, data, grid, best(grid))


def ridge_case(data: Data, config: Any) -> Case:
    """One decay of the linear model's squared weights, with best responses in closed form."""
    examples = jax.tree.map(lambda leaf: leaf[: config.ridge_examples], data.train)
    moments = _principal_axes.rotate(Data(examples, examples, examples)).train
    splits: Any = Data(moments, moments, moments)
    problem = _principal_axes.problem_on(splits, lambda mse: mse, _decay_problem.penalty)
    grid = jnp.linspace(config.ridge_low, config.ridge_high, config.grid_points)
    best = jax.vmap(_principal_axes.best_response, (None, 0))(moments, grid)
    return Case(problem, splits, grid, best)


def measure(case: Case, hypernet: Hypernet, hypernet_params: Any) -> Errors:
    """The errors of a hypernet for each φ, its leading axis."""

    def one(phi: Any, hyperparams: jax.Array, best: Any, examples: Any) -> Errors:
        made = hypernet.apply(phi, hyperparams)
        losses = [
            case.problem.train_loss(each, jnp.exp(hyperparams), examples, jax.random.key(0))
            for each in (made, best)
        ]
        return Errors(best_response_error(made, best), losses[0] - losses[1])

    over_grid = jax.vmap(one, (None, 0, 0, None))
    over_seeds = jax.jit(jax.vmap(over_grid, (0, None, None, None)))
    errors = over_seeds(hypernet_params, case.grid, case.best, case.data.train)
    return Errors(*(np.asarray(value).mean(axis=1) for value in errors))


def claim(label: str, widths: np.ndarray, errors: Errors) -> dict[str, Any]:
    """The theorem's claim for one problem, from errors of shape (widths, seeds)."""
    relative, excess = (value.mean(axis=1) for value in errors)
    slope = np.polyfit(np.log(widths), np.log(relative), 1)[0]
    steps = ", ".join(
        f"{width}: {error:.3f}" for width, error in zip(widths, relative, strict=True)
    )
    return _results.claim(
        f"{label}: the best-response error falls with every step in width (mean over seeds).",
        f"relative error by width {steps} (about width^{slope:.2f}); excess training loss "
        f"{excess[0]:.2g} to {excess[-1]:.2g}",
        holds=bool(np.all(np.diff(relative) < 0)),
    )


def _draw(widths: np.ndarray, errors: dict[str, Errors]) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6))
    looks = zip(_plots.COLORS, _plots.STYLES, ("o", "s"), strict=False)
    for (name, each), (color, style, mark) in zip(errors.items(), looks, strict=False):
        for panel, values in zip(axes, each, strict=True):
            look = {"color": color, "marker": mark}
            panel.loglog(widths, values.mean(axis=1), style, label=LABELS[name], **look)
            panel.loglog(widths, values, linestyle="", markersize=3, alpha=0.5, **look)
    axes[0].set(
        title="Distance from the best response",
        ylabel=r"$\|w_\phi(\lambda) - w^*(\lambda)\| \,/\, \|w^*(\lambda)\|$, mean over $\lambda$",
    )
    axes[1].set(
        title="Training loss above the best",
        ylabel=r"$L_\mathrm{train}(w_\phi(\lambda), \lambda) - L_\mathrm{train}(w^*, \lambda)$",
    )
    for panel in axes:
        panel.set_xticks(widths, [str(width) for width in widths])
        panel.minorticks_off()
        panel.set_xlabel("hidden units of the hypernet (small marks: each seed)")
    axes[0].legend(loc="lower left", fontsize=9)
    return figure


if __name__ == "__main__":
    _launch.main(run)
