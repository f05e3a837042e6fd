"""Hyper-training of the larger problems, with the paper's settings and with ours."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

import shohypernet as shn
from shohypernet.batches import Data
from shohypernet.hypernets import Hypernet
from shohypernet.jacobians import ResponseJacobian
from shohypernet.problem import Problem, param_shapes

# One of many decays has a gradient of 1e-7 or less, beside which Adam's 1e-8 would be no small
# thing.
HYPER_EPSILON = 1e-15


def paper(problem: Problem, settings: Any, *, simultaneous: bool = False) -> shn.HyperOptimizer:
    """The factorized linear hypernet, by Algorithm 3, or by 4 if simultaneous."""
    hypernet = shn.hypernets.factorized(init_scale=shn.hypernets.PAPER_INIT_SCALE)
    optimizer = optax.adam(settings.hypernet_learning_rate)
    hyper_optimizer = optax.adam(settings.hyper_learning_rate)
    if simultaneous:
        return shn.simultaneous(
            problem, hypernet, hypernet_optimizer=optimizer, hyper_optimizer=hyper_optimizer
        )
    return shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optimizer,
        hyper_optimizer=hyper_optimizer,
        sampler=shn.samplers.local_gaussian(settings.sampling_scale),
        samples=settings.samples,
    )


def factorized(problem: Problem, settings: Any, start: float) -> shn.HyperOptimizer:
    """The paper's hypernet by Algorithm 3 with the care that ours got: cosines, and λ − start in.

    As it is, λ = −7 in each of 79,510 inputs makes φ so badly scaled that the weights blow up or
    stand still.
    """
    updates = settings.rounds * settings.inner_steps
    return shn.local_response(
        problem,
        from_start(shn.hypernets.factorized(init_scale=settings.init_scale), start),
        hypernet_optimizer=optax.adam(
            optax.cosine_decay_schedule(settings.hypernet_learning_rate, updates)
        ),
        hyper_optimizer=on_cosine(settings),
        sampler=shn.samplers.local_gaussian(settings.sampling_scale),
        samples=settings.samples,
    )


def from_start(hypernet: Hypernet, start: float) -> Hypernet:
    """The hypernet reading λ − start."""

    def apply(hypernet_params: Any, hyperparams: Any) -> Any:
        return hypernet.apply(hypernet_params, jax.tree.map(lambda leaf: leaf - start, hyperparams))

    return Hypernet(hypernet.init, apply)


def tuned(
    problem: Problem, settings: Any, prior: optax.GradientTransformation | None = None
) -> shn.HyperOptimizer:
    """The centered hypernet with a Kronecker-factored Jacobian, both step sizes on a cosine."""
    hyper_optimizer = optax.chain(prior or optax.identity(), on_cosine(settings))
    return centered(problem, settings, hyper_optimizer)


def centered(
    problem: Problem, settings: Any, hyper_optimizer: optax.GradientTransformation
) -> shn.HyperOptimizer:
    """The same with any optimizer of λ."""
    updates = settings.rounds * settings.inner_steps
    return shn.centered_response(
        problem,
        kronecker(settings),
        optimizer=optax.adam(optax.cosine_decay_schedule(settings.learning_rate, updates)),
        hyper_optimizer=hyper_optimizer,
    )


def kronecker(settings: Any) -> ResponseJacobian:
    """The Jacobian of `tuned`."""
    return shn.jacobians.kronecker(
        refresh_every=settings.refresh_every,
        iterations=settings.iterations,
        damping=settings.damping,
        products=settings.products,
    )


def rounds_within(
    budget: int, problem: Problem, jacobian: ResponseJacobian, inner_steps: int, batch_size: int
) -> int:
    """Rounds of `centered_response` that a budget of gradient evaluations allows."""
    each = inner_steps + 1 + jacobian.vjp_evaluations
    rounds = np.arange(budget // each)
    updates = jacobian.update_evaluations(
        problem, param_shapes(problem), rounds, inner_steps, batch_size
    )
    return int(np.searchsorted(np.cumsum(each + np.asarray(updates)), budget, side="right"))


def on_cosine(settings: Any) -> optax.GradientTransformation:
    """Adam of λ, on a cosine over all rounds."""
    schedule = optax.cosine_decay_schedule(settings.hyper_learning_rate, settings.rounds)
    return optax.adam(schedule, eps=HYPER_EPSILON)


def fit(
    problem: Problem,
    method: shn.HyperOptimizer,
    data: Data,
    start: Any,
    settings: Any,
    folder: pathlib.Path,
    *,
    seeds: Sequence[int],
    evaluations: int,
    resume: bool,
) -> shn.Result:
    """A run with the sizes that the settings of its method give, from decays in natural units."""
    return shn.fit(
        problem,
        method,
        data,
        start,
        steps=settings.rounds,
        seeds=seeds,
        inner_steps=settings.inner_steps,
        train_batch_size=settings.batch_size,
        valid_batch_size=settings.valid_batch_size,
        eval_every=settings.rounds // evaluations,
        workdir=folder,
        resume="auto" if resume else False,
        config=settings.to_dict(),
    )
