"""Hyper-training of the larger problems, with the paper's settings and with ours."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

import shohypernet as shn
from shohypernet.batches import Data
from shohypernet.problem import Problem

# One of many decays has a gradient of 1e-7 or less, beside which Adam's 1e-8 would be no small
# thing.
HYPER_EPSILON = 1e-15


def paper(problem: Problem, settings: Any, *, simultaneous: bool = False) -> shn.HyperOptimizer:
    """The factorized linear hypernet, by Algorithm 3, or by 4 if simultaneous."""
    hypernet = shn.hypernets.factorized(jax.eval_shape(problem.init, jax.random.key(0)))
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
        sampler=shn.hyperparameters.local_gaussian(settings.sampling_scale),
        samples=settings.samples,
    )


def factorized(problem: Problem, settings: Any, start: float) -> shn.HyperOptimizer:
    """The paper's hypernet by Algorithm 3 with the care that ours got: cosines, and λ − start in.

    As it is, λ = −7 in each of 79,510 inputs makes φ so badly scaled that the weights blow up or
    stand still.
    """
    plain = shn.hypernets.factorized(
        jax.eval_shape(problem.init, jax.random.key(0)), init_scale=settings.init_scale
    )

    def apply(hypernet_params: Any, hyperparams: Any) -> Any:
        return plain.apply(hypernet_params, jax.tree.map(lambda leaf: leaf - start, hyperparams))

    updates = settings.rounds * settings.inner_steps
    return shn.local_response(
        problem,
        shn.hypernets.Hypernet(plain.init, apply),
        hypernet_optimizer=optax.adam(
            optax.cosine_decay_schedule(settings.hypernet_learning_rate, updates)
        ),
        hyper_optimizer=_on_cosine(settings),
        sampler=shn.hyperparameters.local_gaussian(settings.sampling_scale),
        samples=settings.samples,
    )


def tuned(problem: Problem, settings: Any) -> shn.HyperOptimizer:
    """The centered hypernet with a Kronecker-factored Jacobian, both step sizes on a cosine."""
    updates = settings.rounds * settings.inner_steps
    return shn.centered_response(
        problem,
        shn.jacobians.kronecker(
            problem,
            refresh_every=settings.refresh_every,
            iterations=settings.iterations,
            damping=settings.damping,
        ),
        optimizer=optax.adam(optax.cosine_decay_schedule(settings.learning_rate, updates)),
        hyper_optimizer=_on_cosine(settings),
    )


def _on_cosine(settings: Any) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(settings.hyper_learning_rate, settings.rounds)
    return optax.adam(schedule, eps=HYPER_EPSILON)


def tuned_rounds(
    budget: int, inner_steps: int, batch_size: int, outputs: int, refresh_every: int = 50
) -> int:
    """Rounds of a centered Kronecker hypernet that a budget of gradient evaluations has room for.

    Every round has its inner steps, a hyper-gradient and its way back through J; those that look at
    the curvature, batches of 1,000 examples in all, and two for each output of each layer.
    """
    seen = min(inner_steps, math.ceil(1_000 / batch_size))
    n = np.arange(budget // (inner_steps + 2))
    looks = (n % refresh_every == 0) | ((n < refresh_every) & (n & (n - 1) == 0))
    spent = np.cumsum(inner_steps + 2 + looks * (seen + 2 * outputs))
    return int(np.searchsorted(spent, budget, side="right"))


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
    """A run with the sizes that the settings of its method give."""
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
        resume=resume and (folder / "run.json").exists(),
        config=settings.to_dict(),
    )
