"""Linear regressions with penalties that have kinks: data, the problem, and runs of a method.

    L_train(w, λ) = ½ mean (y − Xw)² + R(w, λ),    L_valid(w) = mean (y − Xw)²

Features are N(0, Σ) with Σ_ij = ρ^|i − j|, and y = Xβ + ε with ‖Xβ‖ = ratio · ‖ε‖, as in Feng and
Simon (2018), "Gradient-based Regularization Parameter Selection for Problems with Nonsmooth Penalty
Functions", arXiv:1703.09813.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from shohypernet.batches import Data, Examples
from shohypernet.problem import Problem
from shohypernet.proximal import Regularizer
from shohypernet.types import Hyperparams, Space


def draw(weights: np.ndarray, sizes: tuple[int, ...], config: Any, run: int) -> Data:
    """Training, validation and test examples of one run, float64.

    Args:
      weights: β, shape (p,).
      sizes: numbers of examples of the three splits.
      config: with `correlation`, ρ, and `ratio`, of the norms of signal and noise.
      run: a seed.
    """
    rng = np.random.default_rng(run)
    noise = rng.normal(size=(sum(sizes), len(weights)))
    inputs: Any = np.empty_like(noise)
    inputs[:, 0] = noise[:, 0]
    for j in range(1, len(weights)):
        own = np.sqrt(1 - config.correlation**2)
        inputs[:, j] = config.correlation * inputs[:, j - 1] + own * noise[:, j]
    signal, error = inputs @ weights, rng.normal(size=len(inputs))
    error *= np.linalg.norm(signal) / (config.ratio * np.linalg.norm(error))
    ends = np.cumsum((0, *sizes))
    parts = [slice(*pair) for pair in itertools.pairwise(ends)]
    return Data(*(Examples(inputs[part], (signal + error)[part]) for part in parts))


def mean_squared_error(params: Any, examples: Any) -> Any:
    """Mean of (y − Xw)²."""
    inputs, targets = examples
    return ((inputs @ params - targets) ** 2).mean()


def problem(features: int, regularizer: Regularizer, space: Space) -> Problem:
    """The problem of a penalty on one split."""
    return Problem(
        init=lambda key: jnp.zeros(features),
        train_loss=lambda params, hyperparams, batch, key: (
            mean_squared_error(params, batch) / 2 + regularizer.penalty(params, hyperparams)
        ),
        valid_loss=lambda params, hyperparams, batch: mean_squared_error(params, batch),
        space=space,
    )


def curvature(inputs: Any) -> float:
    """Largest curvature of ½ mean (y − Xw)² for inputs, (n, p), or the largest of several."""
    inputs = np.asarray(inputs)
    return float(np.max(np.linalg.norm(inputs, 2, (-2, -1))) ** 2 / inputs.shape[-2])


def tuned(
    method: shn.HyperOptimizer,
    runs: list[Data],
    start: Hyperparams,
    rounds: int,
    inner_steps: int,
) -> tuple[Hyperparams, np.ndarray]:
    """Tune on every run's own data, in one compiled call, with all examples in every step.

    Args:
      method: of a problem whose batches are `Examples`.
      runs: data sets of one shape.
      start: λ, in natural units.
      rounds: R.
      inner_steps: of a round.

    Returns:
      λ after each round, in natural units, leaves (R + 1, runs, …); and the gradient evaluations of
      a run, summed up, shape (R + 1,).
    """
    assert method.problem is not None
    space = method.problem.space
    began = shn.hyperparameters.encode(space, start)
    stacked = jax.tree.map(lambda *parts: jnp.asarray(np.stack(parts), jnp.float32), *runs)

    def one(data: Data, key: jax.Array) -> tuple[Hyperparams, jax.Array]:
        batches = jax.tree.map(
            lambda part: jnp.broadcast_to(part, (inner_steps, *part.shape)), data.train
        )

        def round_of(state: Any, key: jax.Array) -> tuple[Any, tuple[Hyperparams, jax.Array]]:
            state, info = method.step(key, state, batches, data.valid)
            return state, (state.hyperparams, info.gradient_evaluations)

        key_first, key_rounds = jax.random.split(key)
        first = method.init(key_first, began)
        keys = jax.random.split(key_rounds, rounds)
        _, (path, evaluations) = jax.lax.scan(round_of, first, keys)
        path = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), began, path)
        return shn.hyperparameters.decode(space, path), evaluations

    keys = jax.random.split(jax.random.key(0), len(runs))
    path, evaluations = jax.jit(jax.vmap(one, out_axes=1))(stacked, keys)
    summed = np.cumsum(np.asarray(evaluations).mean(1))
    return jax.tree.map(np.asarray, path), np.concatenate([[0], summed])


def errors(
    solve: Callable[[Examples, Hyperparams], np.ndarray], runs: list[Data], chosen: Hyperparams
) -> dict[str, np.ndarray]:
    """Errors of every run, solved anew at its λ, each of shape (runs,).

    Args:
      solve: weights from training examples and λ.
      runs: data sets.
      chosen: λ of every run, leaves (runs, …).

    Returns:
      Errors on validation and test examples, and on test examples when training and validation
      examples together are fitted at the same λ, by name.
    """
    found = []
    for i, data in enumerate(runs):
        decays = jax.tree.map(lambda leaf, i=i: leaf[i], chosen)
        weights, refitted = solve(data.train, decays), solve(both(data), decays)
        pairs = (weights, data.valid), (weights, data.test), (refitted, data.test)
        found.append([mean_squared_error(*pair) for pair in pairs])
    return dict(zip(("valid", "test", "refitted"), np.asarray(found).T, strict=True))


def both(data: Data) -> Examples:
    """Training and validation examples together."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), data.train, data.valid)
