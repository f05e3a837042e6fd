"""The estimates that `hypergradient_fidelity` judges: every method at each of its budgets."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from experiments._recorder import recorder
from shohypernet import hypernets, jacobians
from shohypernet.batches import Data, minibatch
from shohypernet.hypergradients import drmad, implicit, reversible, unrolled
from shohypernet.hypernets import Hypernet
from shohypernet.inner_loop import TrainState
from shohypernet.linear_solvers import Solver, conjugate_gradient, identity, neumann
from shohypernet.problem import Problem, unconstrained

MOMENTUM = 0.9
SCALE = hypernets.PAPER_INIT_SCALE
PAPER, KRONECKER = "hypernet, factorized (paper)", "centered, Kronecker"


class Point(NamedTuple):
    """Point at which hypergradients are compared.

    Attributes:
      hyperparams: λ, a log decay for each weight, shaped like the weights.
      params: w*(λ).
      sharpness: the largest eigenvalue of the training loss's Hessian there.
      data: the three splits.
      key: PRNG key of a method.
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
      budget: its allowance, a point on the method's line.
      hypergradient: `hypergradient(point) -> (gradient, gradient evaluations)`, a pure function.
      batch_size: examples in each of those evaluations; None for the whole training set.
    """

    method: str
    budget: int
    hypergradient: Callable[[Point], tuple[Any, Any]]
    batch_size: int | None = None


Build = Callable[..., shn.HyperOptimizer]
"""`build(problem, hyper_optimizer=…)`, a method but for its optimizer of λ."""


def entries(problem: Problem, config: Any) -> list[Entry]:
    """Every method at each of its budgets."""
    return [
        *_implicit(unconstrained(problem), config),
        *_unrolled(unconstrained(problem), config),
        *_hypernets(problem, config),
    ]


def _hypernets(problem: Problem, config: Any) -> Iterable[Entry]:
    """Hyper-training as in the paper, and with hypernets centered at λ̂."""
    builds = {
        PAPER: functools.partial(_local, hypernets.factorized(init_scale=SCALE)),
        "hypernet, structured (STN)": functools.partial(
            _local, hypernets.structured(init_scale=SCALE)
        ),
        "centered, factorized": functools.partial(_learned, hypernets.factorized(init_scale=SCALE)),
        "centered, structured (Delta-STN)": functools.partial(
            _learned, hypernets.structured(init_scale=SCALE)
        ),
        "centered, elementwise": functools.partial(
            _learned, hypernets.elementwise(init_scale=SCALE)
        ),
        "centered, Kronecker, 1 iteration": functools.partial(_kronecker, 1),
        KRONECKER: functools.partial(_kronecker, config.kronecker_iterations),
    }
    for name, build in builds.items():
        for steps in config.hypernet_steps:
            yield hypernet_entry(
                problem, name, steps, config, functools.partial(build, config, steps)
            )


def _local(
    hypernet: Hypernet, config: Any, steps: int, problem: Problem, **options: Any
) -> shn.HyperOptimizer:
    del steps
    return shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(config.hypernet_learning_rate),
        sampler=shn.samplers.local_gaussian(config.sampling_scale),
        samples=2,
        **options,
    )


def _learned(
    hypernet: Hypernet, config: Any, steps: int, problem: Problem, **options: Any
) -> shn.HyperOptimizer:
    optimizer = _on_cosine(config.jacobian_learning_rate, steps)
    jacobian = jacobians.linearized(hypernet, optimizer=optimizer, samples=2)
    optimizer = _on_cosine(config.weights_learning_rate, steps)
    return shn.centered_response(problem, jacobian, optimizer=optimizer, **options)


def _kronecker(
    iterations: int, config: Any, steps: int, problem: Problem, **options: Any
) -> shn.HyperOptimizer:
    jacobian = jacobians.kronecker(iterations=iterations)
    optimizer = _on_cosine(config.weights_learning_rate, steps)
    return shn.centered_response(problem, jacobian, optimizer=optimizer, **options)


def _on_cosine(rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def hypernet_entry(problem: Problem, method: str, steps: int, config: Any, build: Build) -> Entry:
    """A method of hyper-training after a number of inner steps at the same λ.

    Args:
      problem: what is tuned.
      method: the name of its line.
      steps: inner steps, in rounds of `config.hypernet_inner_steps`.
      config: batch sizes.
      build: the method, whose state has a `hyper_opt_state`.
    """
    rounds = -(-steps // config.hypernet_inner_steps)
    tuner = build(problem, hyper_optimizer=recorder())
    hypergradient = functools.partial(_last_hypergradient, tuner, rounds, config)
    return Entry(method, steps, hypergradient, config.batch_size)


def _last_hypergradient(
    tuner: shn.HyperOptimizer, rounds: int, config: Any, point: Point
) -> tuple[Any, jax.Array]:
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


def _implicit(problem: Problem, config: Any) -> Iterable[Entry]:
    def entry(
        method: str, budget: int, solver: Callable[[Point], Solver], batch_size: int | None = None
    ) -> Entry:
        hypergradient = functools.partial(_at_best_response, problem, solver, batch_size)
        return Entry(method, budget, hypergradient, batch_size)

    yield entry("identity (T1-T2)", 0, lambda point: identity())
    for terms in config.neumann_terms:
        yield entry("Neumann", terms, lambda point, n=terms: neumann(n, 1 / point.sharpness))
    for steps in config.cg_steps:
        yield entry("conjugate gradients", steps, lambda point, n=steps: conjugate_gradient(n))
    for steps in config.cg_steps:
        name = f"conjugate gradients, {config.batch_size:,} examples"
        yield entry(name, steps, lambda point, n=steps: conjugate_gradient(n), config.batch_size)


def _at_best_response(
    problem: Problem, solver: Callable[[Point], Solver], batch_size: int | None, point: Point
) -> tuple[Any, Any]:
    made = implicit.hypergradient(
        problem,
        point.hyperparams,
        point.params,
        minibatch(point.key, point.data.train, batch_size),
        point.data.valid,
        point.key,
        solver=solver(point),
    )
    return made.gradient, made.gradient_evaluations


def _unrolled(problem: Problem, config: Any) -> Iterable[Entry]:
    """Training from fresh weights by heavy ball with α = 1/λ_max, and its derivative."""
    estimates = {
        "unrolled": functools.partial(_by_momentum, unrolled.hypergradient),
        "reversible": _reversed_exactly,
        "DrMAD": functools.partial(_by_momentum, drmad.hypergradient),
        "unrolled, last tenth": _last_tenth,
    }
    for steps in config.unrolled_steps:
        for name, estimate in estimates.items():
            yield Entry(name, steps, functools.partial(_through_steps, problem, estimate, steps))


def _through_steps(
    problem: Problem, estimate: Callable[..., Any], steps: int, point: Point
) -> tuple[Any, Any]:
    def train_loss(params: Any, hyperparams: Any, _: Any, key: jax.Array) -> jax.Array:
        return problem.train_loss(params, hyperparams, point.data.train, key)

    # A batch for each step would be so many copies of the training set.
    whole = problem._replace(train_loss=train_loss)
    params = problem.init(point.key)
    made = estimate(whole, point, params, jnp.zeros(steps), point.data.valid, point.key)
    return made.gradient, made.gradient_evaluations


def _by_momentum(
    hypergradient: Callable[..., Any],
    problem: Problem,
    point: Point,
    params: Any,
    *batches_and_key: Any,
    **options: Any,
) -> Any:
    optimizer = optax.sgd(1 / point.sharpness, momentum=MOMENTUM)
    state = TrainState(params, optimizer.init(params))
    return hypergradient(problem, optimizer, point.hyperparams, state, *batches_and_key, **options)


def _last_tenth(problem: Problem, point: Point, params: Any, steps: jax.Array, *rest: Any) -> Any:
    last = max(1, len(steps) // 10)
    estimate = functools.partial(_by_momentum, unrolled.hypergradient, backward_steps=last)
    return estimate(problem, point, params, steps, *rest)


def _reversed_exactly(problem: Problem, point: Point, params: Any, *batches_and_key: Any) -> Any:
    state = TrainState(params, reversible.Momentum(1 / point.sharpness))
    return reversible.hypergradient(problem, MOMENTUM, point.hyperparams, state, *batches_and_key)
