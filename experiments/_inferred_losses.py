"""Losses of models trained at many λ, and losses inferred from some of them.

λ is the logarithm of a decay for each class, as methods move it.
"""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from tqdm import tqdm

import shohypernet as shn
from experiments._first_phase import train_hypernet
from shohypernet.datasets import CLASSES
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem
from shohypernet.samplers import Sampler


class Drawn(NamedTuple):
    """λ drawn from p(λ).

    Attributes:
      points: those to learn from, shape (sets, models, 10).
      pairs: those to infer the losses of, shape (pairs, 10).
    """

    points: jax.Array
    pairs: jax.Array

    @property
    def all(self) -> jax.Array:
        """All of them, shape (sets · models + pairs, 10)."""
        return jnp.concatenate([self.points.reshape(-1, CLASSES), self.pairs])


class Learned(NamedTuple):
    """A trained hypernet.

    Attributes:
      hypernet: its form.
      hypernet_params: φ, with a leading axis of one entry per seed or set.
      seconds: of its training.
    """

    hypernet: Hypernet
    hypernet_params: Any
    seconds: float


def draw(config: Any) -> Drawn:
    """Draw all λ from p(λ)."""
    count = config.sets * config.models
    keys = jax.random.split(jax.random.key(0), count + config.pairs)
    drawn = jax.jit(jax.vmap(broad(config), (0, None)))(keys, jnp.zeros(CLASSES))
    return Drawn(drawn[:count].reshape(config.sets, config.models, -1), drawn[count:])


def broad(config: Any) -> Sampler:
    """Sampler of p(λ)."""
    return shn.samplers.uniform(config.hyperparam_low, config.hyperparam_high)


def rounds(config: Any) -> int:
    """Rounds of a hypernet's training that cost as many gradients as the models of one set.

    Raises:
      ValueError: if they are no whole number.
    """
    budget = config.models * config.train_steps
    whole, left_over = divmod(budget, config.samples * config.inner_steps)
    if left_over:
        raise ValueError(
            f"models · train_steps = {budget} gradient evaluations must be whole rounds of samples "
            f"· inner_steps = {config.samples * config.inner_steps}; change one of the four."
        )
    return whole


def learn_all(
    problem: Problem,
    data: Any,
    points: jax.Array,
    config: Any,
    workdir: pathlib.Path,
    *,
    resume: bool,
) -> dict[str, Learned]:
    """Every hypernet by its name; `fixed` is one for each set of points."""
    scale = shn.hypernets.PAPER_INIT_SCALE
    linear = shn.hypernets.linear(init_scale=scale)
    relu = shn.hypernets.mlp((config.relu_units,), init_scale=scale)

    def learn(name: str, hypernet: Hypernet, sampler: Sampler, seeds: Sequence[int]) -> Learned:
        return _learn(
            problem, data, hypernet, sampler, config, workdir / name, seeds=seeds, resume=resume
        )

    fixed = [
        learn(f"fixed_{i}", linear, shn.samplers.fixed_set(its_own), config.seeds[:1])
        for i, its_own in enumerate(points)
    ]
    phis = [each.hypernet_params for each in fixed]
    return {
        "fixed": Learned(
            linear,
            jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *phis),
            sum(each.seconds for each in fixed),
        ),
        "stochastic": learn("stochastic", linear, broad(config), config.seeds),
        "relu": learn("relu", relu, broad(config), config.seeds),
    }


def _learn(
    problem: Problem,
    data: Any,
    hypernet: Hypernet,
    sampler: Sampler,
    config: Any,
    folder: pathlib.Path,
    *,
    seeds: Sequence[int],
    resume: bool,
) -> Learned:
    """A hypernet for every seed."""
    result = train_hypernet(
        problem,
        hypernet,
        sampler,
        data,
        jnp.ones(CLASSES),
        config,
        folder,
        rounds=rounds(config),
        seeds=seeds,
        resume=resume,
    )
    budget, spent = config.models * config.train_steps, result.history.gradient_evaluations[-1, 0]
    if spent != budget:
        raise RuntimeError(f"{folder.name} took {spent} gradient evaluations, not {budget}")
    return Learned(hypernet, result.state.hypernet_params, float(result.history.seconds[-1]))


def train(
    problem: Problem, data: Any, hyperparams: jax.Array, config: Any, steps: int
) -> np.ndarray:
    """The validation losses of models trained to completion, one for each row of λ."""
    schedule = optax.cosine_decay_schedule(config.train_learning_rate, steps)

    @jax.jit
    def population(hyperparams: jax.Array, data: Any) -> jax.Array:
        def one(each: jax.Array) -> jax.Array:
            trained = shn.train(
                problem,
                optax.adam(schedule),
                jax.random.key(0),
                jnp.exp(each),
                data.train,
                steps=steps,
            )
            return problem.valid_loss(trained.params, each, data.valid)

        return jax.vmap(one)(hyperparams)

    count, dimensions = hyperparams.shape
    size = min(config.models_at_once, count)
    # Repeated from the start to fill the last population.
    populations = np.resize(hyperparams, (-(-count // size), size, dimensions))
    bar = tqdm(populations, unit=" populations", disable=None)
    done = [np.asarray(population(each, data)) for each in bar]
    return np.concatenate(done)[:count]


def infer(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_params: Any,
    hyperparams: jax.Array,
    data: Any,
    config: Any,
) -> np.ndarray:
    """L_valid(w_φ(λ)) for each φ (its leading axis) and each row of λ."""

    @jax.jit
    def losses(hypernet_params: Any, hyperparams: jax.Array, valid: Any) -> jax.Array:
        return jax.lax.map(
            lambda each: problem.valid_loss(hypernet.apply(hypernet_params, each), each, valid),
            hyperparams,
            batch_size=config.models_at_once,
        )

    seeds = len(jax.tree.leaves(hypernet_params)[0])
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], hypernet_params) for i in range(seeds)]
    return np.stack([np.asarray(losses(phi, hyperparams, data.valid)) for phi in each])


def by_processes(
    points: jax.Array, known: np.ndarray, pairs: jax.Array, config: Any
) -> dict[str, np.ndarray]:
    """Losses inferred by Gaussian processes, one for each set of points, shapes (sets, pairs)."""
    kernels = {
        "process": {"kernel": RBF()},
        "process_ours": {
            # No two of 25 λ lie closer than a few units, so no shorter length can be told.
            "kernel": ConstantKernel() * RBF(5.0, (1.0, 100.0)) + WhiteKernel(1e-2, (1e-6, 1.0)),
            "normalize_y": True,
            "n_restarts_optimizer": config.process_restarts,
        },
    }
    inferred = {}
    for name, settings in kernels.items():
        with warnings.catch_warnings():
            # An optimum at a bound of the kernel's is as good as another.
            warnings.simplefilter("ignore", ConvergenceWarning)
            processes = [
                GaussianProcessRegressor(**settings, random_state=0).fit(*its_own)
                for its_own in zip(points, known, strict=True)
            ]
        inferred[name] = np.stack([process.predict(pairs) for process in processes])
    return inferred
