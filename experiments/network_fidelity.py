"""Fidelity of hypernets' hypergradients for a network, where no closed form is known.

784-100-10 with one decay per weight, at λ = level + N(0, 1). Each hypernet is trained at this fixed
λ, and its hypergradient on all validation data is held against implicit differentiation at the very
same weights: conjugate gradients run until they have converged, on the Gauss-Newton curvature of
the whole training set with a damping. Directions that are flatter than the damping are those that
no inner run of this length would follow. Kronecker is there twice: with its factors alone, and with
steps on minibatches towards the Gauss-Newton curvature's own solution.

python -m experiments.network_fidelity --config=configs/network_fidelity.py --workdir=DIR
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import shohypernet as shn
from experiments import _decay_problem, _launch, _plots, _results
from experiments._recorder import recorder
from shohypernet import hypernets, jacobians
from shohypernet.batches import Data, minibatch
from shohypernet.hypergradients import implicit
from shohypernet.hypergradients.curvature import gauss_newton_of
from shohypernet.jacobians import ResponseJacobian
from shohypernet.linear_solvers import conjugate_gradient
from shohypernet.problem import Problem, param_shapes, unconstrained

NAME = "network_fidelity"
CONVERGED = 0.999  # cosine between references of half and of all conjugate-gradient steps
NAMES = (
    "factorized (paper)",
    "centered, elementwise",
    "centered, Kronecker alone",
    "centered, Kronecker",
)


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Train each hypernet at fixed λ, and compare its hypergradient with converged ones."""
    del resume  # a few minutes' work, all in memory
    data = _decay_problem.load_data(config)
    hidden = tuple(config.hidden)
    problem = _decay_problem.problem_on(data, hidden, config.init_scale)
    level = shn.penalties.decays(param_shapes(problem), config.level, "weight")
    noise = optax.tree.random_like(jax.random.key(config.seed), level)
    hyperparams = optax.tree.add(level, noise)  # log decays

    references = [
        _reference(problem, config.seed, steps) for steps in (config.cg_steps // 2, config.cg_steps)
    ]
    cosines, losses = {}, {}
    for name, build in _builders(problem, config).items():
        gradient, params = jax.jit(functools.partial(_hypergradient, build, config))(
            hyperparams, data
        )
        losses[name] = [float(problem.valid_loss(params, hyperparams, split)) for split in data]
        cosines[name] = {
            damping: _compared(
                gradient,
                *(reference(params, hyperparams, data, damping) for reference in references),
            )
            for damping in config.dampings
        }
        shown = ", ".join(f"{d:g}: {found['cosine']:.3f}" for d, found in cosines[name].items())
        print(f"{name:<26} cosine at damping {shown}", flush=True)

    _plots.save_figure(_draw(cosines, config), workdir, NAME)
    table = [[list(found.values()) for found in each.values()] for each in cosines.values()]
    _results.save_arrays(workdir, NAME, {"found": np.array(table)})
    return {
        "main": {
            f"cosine, {name}": each[config.dampings[0]]["cosine"] for name, each in cosines.items()
        },
        "claims": [_claim(cosines)],
        "found": {
            name: {f"{damping:g}": found for damping, found in each.items()}
            for name, each in cosines.items()
        },
        "losses": losses,
    }


def _compared(gradient: Any, half: Any, reference: Any) -> dict[str, float]:
    """A gradient beside the reference, and the reference beside one of half as many steps."""
    return {
        "cosine": float(shn.diagnostics.cosine(gradient, reference)),
        "norm_ratio": float(shn.diagnostics.norm_ratio(gradient, reference)),
        "converged": float(shn.diagnostics.cosine(half, reference)),
    }


def _builders(problem: Problem, config: Any) -> dict[str, Callable[..., shn.HyperOptimizer]]:
    """Methods but for their optimizers of λ."""

    def cosine(rate: float) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(rate, config.steps))

    def centered(jacobian: ResponseJacobian) -> Callable[..., shn.HyperOptimizer]:
        return functools.partial(
            shn.centered_response, problem, jacobian, optimizer=cosine(config.learning_rate)
        )

    learned = jacobians.linearized(
        hypernets.elementwise(init_scale=hypernets.PAPER_INIT_SCALE),
        optimizer=cosine(config.jacobian_learning_rate),
    )
    paper = functools.partial(
        shn.local_response,
        problem,
        hypernets.factorized(init_scale=hypernets.PAPER_INIT_SCALE),
        hypernet_optimizer=optax.adam(config.hypernet_learning_rate),
        sampler=shn.samplers.local_gaussian(config.sampling_scale),
        samples=2,
    )
    alone, tracked = (
        jacobians.kronecker(iterations=config.iterations, damping=config.damping, products=products)
        for products in (0, config.products)
    )
    methods = paper, *map(centered, (learned, alone, tracked))
    return dict(zip(NAMES, methods, strict=True))


def _hypergradient(
    build: Callable[..., shn.HyperOptimizer],
    config: Any,
    hyperparams: Any,
    data: Data,
) -> tuple[Any, Any]:
    """The last hypergradient, on all validation data, and its weights."""
    tuner = build(hyper_optimizer=recorder())

    def a_round(state: Any, key: jax.Array, valid_size: int | None) -> Any:
        key_train, key_valid, key_step = jax.random.split(key, 3)
        train_batches = minibatch(key_train, data.train, (config.inner_steps, config.batch_size))
        valid_batch = minibatch(key_valid, data.valid, valid_size)
        return tuner.step(key_step, state, train_batches, valid_batch)[0]

    key_init, key_rounds, key_last = jax.random.split(jax.random.key(config.seed), 3)
    keys = jax.random.split(key_rounds, config.steps // config.inner_steps - 1)
    state = tuner.init(key_init, hyperparams)
    state, _ = jax.lax.scan(
        lambda state, key: (a_round(state, key, config.valid_batch_size), None), state, keys
    )
    state = a_round(state, key_last, None)
    return state.hyper_opt_state, tuner.weights(state)


def _reference(problem: Problem, seed: int, steps: int) -> Callable[[Any, Any, Data, float], Any]:
    """`hypergradient(params, hyperparams, data, damping)`, by conjugate gradients."""
    inner = unconstrained(problem)

    @jax.jit
    def hypergradient(params: Any, hyperparams: Any, data: Data, damping: Any) -> Any:
        return implicit.hypergradient(
            inner,
            hyperparams,
            params,
            data.train,
            data.valid,
            jax.random.key(seed),
            solver=conjugate_gradient(steps),
            curvature=gauss_newton_of(inner),
            damping=damping,
        ).gradient

    return hypergradient


def _claim(cosines: dict[str, dict[float, dict[str, float]]]) -> dict[str, Any]:
    def best(name: str) -> float:
        each = (found for found in cosines[name].values() if found["converged"] >= CONVERGED)
        return max((found["cosine"] for found in each), default=-1.0)

    converged = [
        damping for damping, found in cosines[NAMES[-1]].items() if found["converged"] >= CONVERGED
    ]
    measured = "; ".join(
        f"{name}: " + ", ".join(f"{each[damping]['cosine']:.2f}" for damping in converged)
        for name, each in cosines.items()
    )
    return _results.claim(
        "For a network, too, the Kronecker hypernet's hypergradient is nearer to the converged one "
        "than the paper's hypernet's.",
        f"cosines at dampings {', '.join(f'{damping:g}' for damping in converged)}, where the "
        f"reference has converged: {measured}"
        if converged
        else "the reference has converged at none of the dampings",
        holds=best(NAMES[-1]) > best(NAMES[0]) if converged else None,
    )


def _draw(cosines: dict[str, dict[float, dict[str, float]]], config: Any) -> Figure:
    figure, axes = plt.subplots(figsize=(6.5, 4.2))
    looks = zip(_plots.COLORS, _plots.STYLES, "osD^", strict=False)
    for (name, each), (color, style, mark) in zip(cosines.items(), looks, strict=False):
        found = [one["cosine"] for one in each.values()]
        axes.plot(list(each), found, color=color, linestyle=style, marker=mark, label=name)
        shaky = [d for d, one in each.items() if one["converged"] < CONVERGED]
        axes.plot(
            shaky, [each[d]["cosine"] for d in shaky], "o", mfc="none", color="0.3", markersize=11,
            linestyle="",
        )  # fmt: skip
    axes.plot([], [], "o", mfc="none", color="0.3", label="reference not converged")
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(
        xscale="log",
        xlabel="damping of the reference",
        ylabel="cosine to the converged hypergradient",
        title=f"784-{'-'.join(map(str, config.hidden))}-10 on {config.data}",
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


if __name__ == "__main__":
    _launch.main(run)
