"""The step sizes of the contenders of `unrolled_comparison`, by search on validation."""

import itertools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from experiments._unrolled_contenders import Method
from shohypernet.batches import Data, minibatch
from shohypernet.hyperparameters import encode
from shohypernet.problem import Problem

DIVERGED = 2.0  # times the loss of the first weights


class Chosen(NamedTuple):
    """A pair of step sizes, and the run with them.

    Attributes:
      inner_rate: of the weights, or of φ.
      hyper_rate: of λ.
      diverged: how many pairs did better in the search, but diverged later.
      result: of `fit`, for all seeds.
    """

    inner_rate: float
    hyper_rate: float
    diverged: int
    result: shn.Result


def search(
    problem: Problem, method: Method, data: Data, start: Any, config: Any
) -> list[tuple[float, float]]:
    """Pairs of step sizes, those first whose weights validate best after a short run.

    All runs are one call; pairs that diverged are left out.

    Args:
      problem: what is tuned.
      method: the contender.
      data: three splits.
      start: hyperparameters in natural units.
      config: step sizes of λ, sizes and the seed.
    """
    pairs = list(itertools.product(method.inner_rates, config.hyper_rates))
    rounds = method.rounds(config.search_evaluations)
    start = encode(problem.space, start)

    def last_loss(data: Data, inner_rate: jax.Array, hyper_rate: jax.Array) -> jax.Array:
        tuner = method.build(inner_rate, hyper_rate)

        def step(state: Any, key: jax.Array) -> tuple[Any, None]:
            key_train, key_valid, key_step = jax.random.split(key, 3)
            size = method.inner_steps, config.batch_size
            train_batches = minibatch(key_train, data.train, size)
            valid_batch = minibatch(key_valid, data.valid, config.batch_size)
            return tuner.step(key_step, state, train_batches, valid_batch)[0], None

        key_init, key_steps = jax.random.split(jax.random.key(config.search_seed))
        state = tuner.init(key_init, start)
        state, _ = jax.lax.scan(step, state, jax.random.split(key_steps, rounds))
        return problem.valid_loss(tuner.weights(state), state.hyperparams, data.valid)

    rates = jnp.asarray(pairs)
    losses = np.asarray(jax.jit(jax.vmap(last_loss, (None, 0, 0)))(data, rates[:, 0], rates[:, 1]))
    finite = [n for n in np.argsort(losses) if np.isfinite(losses[n])]
    return [(pairs[n][0], pairs[n][1]) for n in finite]


def tune(
    problem: Problem,
    method: Method,
    data: Data,
    start: Any,
    config: Any,
    folder: pathlib.Path,
    *,
    resume: bool,
) -> Chosen:
    """The whole run with the best pair of step sizes that it survives.

    Raises:
      ValueError: if it survives none.
    """
    pairs = search(problem, method, data, start, config)
    for diverged, (inner_rate, hyper_rate) in enumerate(pairs):
        place = folder.with_name(f"{folder.name}_{inner_rate:g}_{hyper_rate:g}")
        result = _survived(
            problem, method, data, start, config, place, inner_rate, hyper_rate, resume=resume
        )
        if result is not None:
            return Chosen(inner_rate, hyper_rate, diverged, result)
        print(f"{folder.name} diverged with step sizes {inner_rate:g}, {hyper_rate:g}.")
    raise ValueError(
        f"{folder.name} diverged with every pair of step sizes; give smaller ones, not "
        f"{method.inner_rates} and {config.hyper_rates}."
    )


def _survived(
    problem: Problem,
    method: Method,
    data: Data,
    start: Any,
    config: Any,
    folder: pathlib.Path,
    inner_rate: float,
    hyper_rate: float,
    *,
    resume: bool,
) -> shn.Result | None:
    """The whole run with one pair of step sizes; None if it diverges."""
    rounds = method.rounds(config.evaluations)
    eval_every = max(1, rounds // config.checkpoints)
    try:
        result = shn.fit(
            problem,
            method.build(inner_rate, hyper_rate),
            data,
            start,
            steps=rounds - rounds % eval_every,
            seeds=config.seeds,
            inner_steps=method.inner_steps,
            train_batch_size=config.batch_size,
            valid_batch_size=config.batch_size,
            eval_every=eval_every,
            workdir=folder,
            resume="auto" if resume else False,
            config={"inner_rate": inner_rate, "hyper_rate": hyper_rate},
            progress=False,
        )
    except shn.NonFiniteLoss:
        return None
    # A loss may be past all use and still finite.
    first, *later = result.history.valid_loss
    return result if np.all(later <= DIVERGED * first) else None
