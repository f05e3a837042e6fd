"""The contenders of `unrolled_comparison`: hyper-training, unrolling, implicit differentiation."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import shohypernet as shn
from experiments import _hyper_training
from shohypernet.linear_solvers import conjugate_gradient, identity, neumann
from shohypernet.problem import Problem

MOMENTUM = 0.9
CENTERED, HYPERNET, UNROLLED = "centered hyper-training", "hyper-training", "unrolled"


class Method(NamedTuple):
    """A contender.

    Attributes:
      build: `build(inner_rate, hyper_rate) -> HyperOptimizer`, of step sizes that may be traced.
      inner_steps: in each of its rounds.
      inner_rates: the step sizes of the weights, or of φ, that are tried.
      rounds: rounds that a budget of gradient evaluations allows.
    """

    build: Callable[[Any, Any], shn.HyperOptimizer]
    inner_steps: int
    inner_rates: tuple[float, ...]
    rounds: Callable[[int], int]


def methods(problem: Problem, config: Any) -> dict[str, Method]:
    """The contenders that the config names; any function to a HyperOptimizer can join."""
    steps, unrolled, products = config.inner_steps, config.unrolled_steps, config.products

    def gradient_method(
        build: Callable[..., shn.HyperOptimizer], inner_steps: int, evaluations: int, **options: Any
    ) -> Method:
        return Method(
            functools.partial(_gradient_method, build, problem, options),
            inner_steps,
            config.inner_rates,
            lambda budget: budget // evaluations,
        )

    def implicit(solver: Any, products: int) -> Method:
        evaluations = steps + 2 + 2 * products
        return gradient_method(shn.implicit, steps, evaluations, solver=solver)

    known = {
        CENTERED: _centered(problem, config),
        HYPERNET: _hyper_trained(problem, config),
        UNROLLED: gradient_method(shn.unrolled, unrolled, 3 * unrolled + 1, segment=unrolled),
        "truncated": gradient_method(
            shn.truncated, steps, 3 * steps + 1, backward_steps=steps, segment=steps
        ),
        "implicit, CG": implicit(conjugate_gradient(products), products),
        "implicit, Neumann": implicit(neumann(products, config.neumann_step_size), products),
        "T1-T2": implicit(identity(), 0),
        "DrMAD": gradient_method(shn.drmad, unrolled, 3 * unrolled + 1),
    }
    unknown = set(config.methods) - known.keys()
    if unknown or not {HYPERNET, UNROLLED} <= set(config.methods):
        raise ValueError(
            f"methods must be some of {sorted(known)}, with {HYPERNET!r} and {UNROLLED!r} among "
            f"them; got {config.methods}."
        )
    return {name: known[name] for name in config.methods}


def _gradient_method(
    build: Callable[..., shn.HyperOptimizer],
    problem: Problem,
    options: dict[str, Any],
    inner_rate: Any,
    hyper_rate: Any,
) -> shn.HyperOptimizer:
    return build(
        problem,
        optimizer=optax.sgd(inner_rate, momentum=MOMENTUM),
        hyper_optimizer=_hyper_optimizer(hyper_rate),
        **options,
    )


def _centered(problem: Problem, config: Any) -> Method:
    jacobian = shn.jacobians.kronecker()

    def build(inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
        return shn.centered_response(
            problem,
            jacobian,
            optimizer=optax.adam(inner_rate),
            hyper_optimizer=_hyper_optimizer(hyper_rate),
        )

    def rounds(budget: int) -> int:
        return _hyper_training.rounds_within(
            budget, problem, jacobian, config.inner_steps, config.batch_size
        )

    return Method(build, config.inner_steps, config.centered_rates, rounds)


def _hyper_trained(problem: Problem, config: Any) -> Method:
    samples = 2

    def build(inner_rate: Any, hyper_rate: Any) -> shn.HyperOptimizer:
        return shn.local_response(
            problem,
            shn.hypernets.factorized(init_scale=shn.hypernets.PAPER_INIT_SCALE),
            hypernet_optimizer=optax.adam(inner_rate),
            hyper_optimizer=_hyper_optimizer(hyper_rate),
            sampler=shn.samplers.local_gaussian(config.sampling_scale),
            samples=samples,
        )

    evaluations = samples * config.inner_steps + 1
    return Method(
        build, config.inner_steps, config.hypernet_rates, lambda budget: budget // evaluations
    )


def _hyper_optimizer(learning_rate: Any) -> optax.GradientTransformation:
    return optax.adam(learning_rate, eps=_hyper_training.HYPER_EPSILON)
