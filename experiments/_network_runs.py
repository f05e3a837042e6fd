"""The runs of `deeper_networks`: a grid of single decays, hyper-training, training again at λ̂."""

import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _decay_problem, _hyper_training
from shohypernet.batches import Data
from shohypernet.problem import Problem


class InnerRuns(NamedTuple):
    """Networks trained at fixed λ.

    Attributes:
      losses: on train, valid and test, shape (..., seeds, 3).
      seconds: of all together, compilation apart.
    """

    losses: np.ndarray
    seconds: float


class Network(NamedTuple):
    """All runs of one network.

    Attributes:
      name: the widths of its layers.
      decays: the grid of log decays.
      grid: inner runs at each of them, losses of shape (decays, seeds, 3).
      tuned: the history of hyper-training with our settings, for all seeds.
      paper: with the paper's hypernet and settings, for the first seed.
      factorized: with the paper's hypernet and our settings, for all seeds.
      retrained: inner runs from fresh weights at each seed's final λ̂, losses of shape (seeds, 3).
    """

    name: str
    decays: np.ndarray
    grid: InnerRuns
    tuned: shn.History
    paper: shn.History
    factorized: shn.History
    retrained: InnerRuns

    @property
    def best(self) -> int:
        """The index in the grid of least mean validation loss."""
        return int(np.argmin(self.grid.losses[..., 1].mean(1)))


def run(
    name: str, problem: Problem, data: Data, config: Any, folder: pathlib.Path, *, resume: bool
) -> Network:
    """Train on the grid, hyper-train with every setting, and train again at the λ̂ found."""
    seeds = jnp.asarray(config.seeds)
    decays = jnp.asarray(config.decays, jnp.float32)
    print(f"{name}: {decays.size} decays, each for {seeds.size} seeds.", flush=True)
    train = trainer(problem, config.training)
    over_seeds = jax.vmap(train, (0, None, None))
    grid = timed(jax.vmap(over_seeds, (None, 0, None)), seeds, jnp.exp(decays), data)

    results = {}
    for kind, method, count in (
        ("tuned", _hyper_training.tuned(problem, config.tuned), None),
        ("paper", _hyper_training.paper(problem, config.paper), 1),
        ("factorized", _hyper_training.factorized(problem, config.factorized, config.start), None),
    ):
        print(f"{name}: hyper-training, {kind}.", flush=True)
        results[kind] = _hyper_training.fit(
            problem,
            method,
            data,
            _decay_problem.decays(problem, config.start, "weight"),
            config[kind],
            folder / kind,
            seeds=config.seeds[:count],
            evaluations=config.evaluations,
            resume=resume,
        )
    retrained = timed(jax.vmap(train, (0, 0, None)), seeds, results["tuned"].hyperparams, data)
    histories = {kind: result.history for kind, result in results.items()}
    return Network(name, np.asarray(decays), grid, retrained=retrained, **histories)


def trainer(problem: Problem, settings: Any) -> Callable[[jax.Array, Any, Data], jax.Array]:
    """`train(seed, hyperparams, data) -> losses`, shape (3,), from decays in natural units."""
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)

    def train(seed: jax.Array, hyperparams: Any, data: Data) -> jax.Array:
        params = shn.train(
            problem,
            optax.adam(schedule),
            jax.random.key(seed),
            hyperparams,
            data.train,
            steps=settings.steps,
            batch_size=settings.batch_size,
        ).params
        return jnp.stack([problem.valid_loss(params, hyperparams, split) for split in data])

    return train


def timed(train: Callable[..., jax.Array], *arguments: Any) -> InnerRuns:
    compiled = jax.jit(train).lower(*arguments).compile()
    began = time.perf_counter()
    losses = np.asarray(compiled(*arguments))
    return InnerRuns(losses, time.perf_counter() - began)


def losses(history: shn.History) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses without penalty on train, valid and test at each evaluation, shapes (E, S)."""
    return history.valid_loss_on_train, history.valid_loss, history.test_loss
