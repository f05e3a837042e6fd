"""Meta-learning: MAML, first-order, implicit and with learned step sizes, on two kinds of tasks.

The initialization is λ and a task's displacement from it is w: see `_maml`. Quadratic tasks have
closed forms; sinusoids are Finn et al.'s.

python -m experiments.maml --config=configs/maml.py --workdir=DIR
"""

import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _launch, _maml, _plots, _results
from experiments import _meta_tasks as tasks
from experiments._maml import FIRST_ORDER, IMPLICIT, MAML, META_SGD, TaskLoss
from shohypernet.hypergradients.curvature import gauss_newton
from shohypernet.problem import Problem

NAME = "maml"
NEAR = 0.01  # of a closed form, as a share of its norm
ZERO = 4.25  # mean squared error of predicting 0 on sinusoids
ON_SINUSOIDS = MAML, FIRST_ORDER, META_SGD, IMPLICIT


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Learn both kinds of tasks by all methods that apply to them, and draw what is reached."""
    del resume  # it takes some minutes
    found, exact, losses = quadratics(config)
    curves = sinusoids(config)
    _plots.save_figure(draw(losses, curves), workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {f"sinusoids, {name}": each for name, each in curves.items()}
        | {f"theta, {name}": each for name, each in found.items()}
        | {f"exact theta, {name}": each for name, each in exact.items()},
    )
    return {
        "main": {f"error, {name}": float(each[:, -1].mean()) for name, each in curves.items()},
        "claims": claims(found, exact, losses, curves),
        "quadratic_losses": losses,
        "sinusoid_errors": {name: each.mean(0).tolist() for name, each in curves.items()},
    }


def quadratics(
    config: Any,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, float]]:
    """θ that was found and the closed form, by method; and losses after the inner steps."""
    task = tasks.quadratics(config.tasks, config.dimensions)
    theta = jnp.zeros(config.dimensions)
    on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), task)
    schedule = optax.cosine_decay_schedule(config.quadratic_learning_rate, config.quadratic_rounds)
    best, best_rate = tasks.best_rate(task, config.steps)
    exact = {
        MAML: tasks.closed_form(task, config.rate, config.steps),
        FIRST_ORDER: tasks.first_order_form(task, config.rate, config.steps),
        IMPLICIT: tasks.implicit_form(task, config.proximity),
        META_SGD: best,
    }
    found, rates = {}, {}
    for name in exact:
        print(f"Quadratic tasks: {name}.")
        implicit = name == IMPLICIT
        given = theta, tasks.quadratic_loss, config.tasks
        problem = (
            _maml.proximal_problem(*given, config.proximity) if implicit else _maml.problem(*given)
        )
        method = _maml.method(name, problem, config.rate, optax.adam(schedule))
        steps = config.implicit_steps if implicit else config.steps
        ended = _learned(
            method,
            _start(name, theta, config.rate),
            lambda key: (on_device, on_device),
            config.quadratic_rounds,
            steps,
        )
        found[name] = np.asarray(ended["theta"], np.float64)
        rates[name] = float(np.mean(ended.get("rate", config.rate)))
    losses = {
        name: tasks.adapted_loss(task, found[name], rates[name], config.steps)
        for name in (MAML, FIRST_ORDER, META_SGD)
    }
    losses["θ = mean of the centers"] = tasks.adapted_loss(
        task, task.centers.mean(0), config.rate, config.steps
    )
    losses["exact MAML"] = tasks.adapted_loss(task, exact[MAML], config.rate, config.steps)
    losses["exact, best step size"] = tasks.adapted_loss(task, best, best_rate, config.steps)
    return found, exact, losses


def sinusoids(config: Any) -> dict[str, np.ndarray]:
    """Test errors of each task after 0, 1, … inner steps, by method, shape (tasks, steps + 1).

    All are tested by the same plain steps, but implicit MAML: its minima know no step size, and θ
    may go where those steps diverge. It has more and smaller ones of its own, drawn back to θ.
    """
    model, loss = _network(config)
    theta = model.init(jax.random.key(0), jnp.zeros((1, 1)))["params"]
    tested = tasks.sinusoids(jax.random.key(1), config.test_tasks, config.shots)
    fixed = jax.tree.map(lambda leaf: jnp.full(leaf.shape, config.inner_rate), theta)
    own_rate = config.sinusoid_implicit_rate
    curves = {}
    for name in ON_SINUSOIDS:
        print(f"Sinusoids: {name}, {config.iterations:,} iterations.", flush=True)
        ended = _learned(
            _on_sinusoids(name, model, loss, theta, config),
            _start(name, theta, config.inner_rate),
            lambda key: tasks.sinusoids(key, config.meta_batch, config.shots),
            config.iterations,
            config.sinusoid_implicit_steps if name == IMPLICIT else config.inner_steps,
        )
        rates, steps, proximity = ended.get("rate", fixed), config.test_steps, 0.0
        if name == IMPLICIT:
            rates = jax.tree.map(lambda leaf: jnp.full_like(leaf, own_rate), fixed)
            steps, proximity = config.sinusoid_implicit_steps, config.sinusoid_proximity
        curves[name] = _tested(ended["theta"], loss, rates, tested, steps, proximity)
    return curves


def _network(config: Any) -> tuple[nn.Module, TaskLoss]:
    """The network of the sinusoids, and its loss on one of them."""
    layers = [layer for width in config.hidden for layer in (nn.Dense(width), nn.relu)]
    model = nn.Sequential([*layers, nn.Dense(1)])

    def loss(weights: Any, task: Any) -> jax.Array:
        inputs, targets = task
        outputs: Any = model.apply({"params": weights}, inputs)
        return jnp.mean((outputs - targets) ** 2)

    return model, loss


def _on_sinusoids(
    name: str, model: nn.Module, loss: TaskLoss, theta: Any, config: Any
) -> shn.HyperOptimizer:
    """A method of the sinusoids' problem.

    That of implicit MAML solves with the Gauss-Newton curvature: a network's Hessian has negative
    eigenvalues below −ρ, with which conjugate gradients run away.
    """
    schedule = optax.cosine_decay_schedule(config.meta_learning_rate, config.iterations)
    optimizer = optax.adam(schedule)
    given = theta, loss, config.meta_batch
    if name != IMPLICIT:
        return _maml.method(name, _maml.problem(*given), config.inner_rate, optimizer)

    def outputs(params: Any, batch: Any, key: jax.Array) -> Any:
        return jax.vmap(lambda weights, inputs: model.apply({"params": weights}, inputs))(
            params, batch[0]
        )

    curvature = gauss_newton(
        outputs,
        lambda made, batch: jnp.sum(jnp.mean((made - batch[1]) ** 2, axis=(1, 2))),
        lambda params, hyperparams: _maml.penalty(params, hyperparams, config.sinusoid_proximity),
    )
    problem = _maml.proximal_problem(*given, config.sinusoid_proximity)
    rate, products = config.sinusoid_implicit_rate, config.sinusoid_products
    return _maml.from_theta(_maml.method(name, problem, rate, optimizer, products, curvature))


def _tested(
    theta: Any, loss: TaskLoss, rates: Any, tested: Any, steps: int, proximity: float = 0.0
) -> np.ndarray:
    """Errors of every task on its query, shape (tasks, steps + 1)."""

    def adapt(task: Any, query: Any) -> jax.Array:
        return _maml.adapted(theta, loss, rates, task, query, steps, proximity)

    return np.asarray(jax.jit(jax.vmap(adapt))(*tested))


def _start(name: str, theta: Any, rate: float) -> dict[str, Any]:
    """λ in natural units."""
    if name != META_SGD:
        return {"theta": theta}
    scalar = isinstance(theta, jax.Array)
    rates = jax.tree.map(lambda leaf: jnp.full(() if scalar else leaf.shape, rate), theta)
    return {"theta": theta, "rate": rates}


def _learned(
    method: shn.HyperOptimizer,
    start: dict[str, Any],
    draw_tasks: Callable[[jax.Array], tuple[Any, Any]],
    rounds: int,
    steps: int,
) -> dict[str, Any]:
    """λ in natural units after all rounds, each on tasks of its own.

    `fit` draws training and validation batches apart, but a task's query belongs to its support."""
    assert method.problem is not None
    given: Problem = method.problem

    def round_of(state: Any, key: jax.Array) -> tuple[Any, None]:
        key_tasks, key_step = jax.random.split(key)
        support, query = draw_tasks(key_tasks)
        batches = jax.tree.map(lambda part: jnp.broadcast_to(part, (steps, *part.shape)), support)
        return method.step(key_step, state, batches, query)[0], None

    encoded = shn.hyperparameters.encode(given.space, start)
    key_first, key_rounds = jax.random.split(jax.random.key(0))
    first = method.init(key_first, encoded)
    last, _ = jax.jit(lambda first, keys: jax.lax.scan(round_of, first, keys))(
        first, jax.random.split(key_rounds, rounds)
    )
    return shn.hyperparameters.decode(given.space, last.hyperparams)


def claims(
    found: dict[str, np.ndarray],
    exact: dict[str, np.ndarray],
    losses: dict[str, float],
    curves: dict[str, np.ndarray],
) -> list[dict[str, Any]]:
    """Claims about closed forms and sinusoids."""
    away = {
        name: float(np.linalg.norm(found[name] - exact[name]) / np.linalg.norm(exact[name]))
        for name in exact
    }
    best = losses["exact, best step size"]
    errors = {name: each.mean(0) for name, each in curves.items()}
    shown = "; ".join(
        f"{name} {each[0]:.2f} before, {each[1]:.3f} after 1 step, {each[-1]:.3f} after "
        f"{len(each) - 1}"
        for name, each in errors.items()
    )
    return [
        _results.claim(
            "On quadratic tasks MAML, first-order and implicit MAML end at their closed forms, "
            "within 1 %.",
            ", ".join(f"{name} {away[name]:.1g}" for name in (MAML, FIRST_ORDER, IMPLICIT)),
            holds=max(away[name] for name in (MAML, FIRST_ORDER, IMPLICIT)) <= NEAR,
        ),
        _results.claim(
            "Meta-SGD ends at the best pair of initialization and step size, below MAML's loss.",
            f"{losses[META_SGD]:.4f}; the best pair {best:.4f}, MAML {losses[MAML]:.4f}",
            holds=losses[META_SGD] <= (1 + NEAR) * best and losses[META_SGD] < losses[MAML],
        ),
        _results.claim(
            "On sinusoids the error after the last step on ten points is below a quarter of that "
            f"of predicting 0 ({ZERO}), by every method.",
            shown,
            holds=all(each[-1] < ZERO / 4 for each in errors.values()),  # not of one that is NaN
        ),
        _results.claim(
            "Second derivatives pay: MAML's error after one step is below first-order MAML's.",
            f"{errors[MAML][1]:.3f} against {errors[FIRST_ORDER][1]:.3f}",
            holds=bool(errors[MAML][1] < errors[FIRST_ORDER][1]),
        ),
    ]


def draw(losses: dict[str, float], curves: dict[str, np.ndarray]) -> Figure:
    """Losses on quadratic tasks, and test errors on sinusoids by inner steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5))
    names = list(losses)
    left.barh(range(len(names)), list(losses.values()), color=_plots.COLORS[0], alpha=0.8)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set(xlabel="mean loss after the inner steps", title="Quadratic tasks")
    for color, style, name in zip(_plots.COLORS, _plots.STYLES, ON_SINUSOIDS, strict=True):
        errors = curves[name]
        mean, error = errors.mean(0), errors.std(0) / np.sqrt(len(errors))
        steps = np.arange(len(mean))
        right.plot(steps, mean, style, color=color, label=name)
        right.fill_between(steps, mean - error, mean + error, color=color, alpha=0.15, linewidth=0)
    right.axhline(ZERO, color="0.4", linestyle=":", label="predicting 0")
    right.set(
        yscale="log",
        ylim=(None, 2 * ZERO),  # some tasks may diverge, and the mean with them
        xlabel="gradient steps on ten points",
        ylabel="test error (MSE)",
        title="Sinusoids (mean of new tasks, band: standard error)",
    )
    right.legend()
    return figure


if __name__ == "__main__":
    _launch.main(run)
