"""Networks of `smash`, trained to the end, and the losses of those that hypernets make."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _architectures
from experiments._architectures import Architecture, Space
from shohypernet.batches import Data, Examples
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem
from shohypernet.types import Params


class Losses(NamedTuple):
    """Of trained networks, arrays of shape (seeds, networks).

    Attributes:
      valid: cross-entropy on the validation images, in nats.
      test: likewise on the test images.
      error: on the test images, a share.
    """

    valid: np.ndarray
    test: np.ndarray
    error: np.ndarray


class Cost(NamedTuple):
    """Gradients of one minibatch, and seconds without compilation."""

    gradients: float
    seconds: float


def train(
    space: Space, data: Data, architectures: Sequence[Architecture], config: Any
) -> tuple[Losses, Cost]:
    """Train every architecture from scratch with every seed.

    Returns:
      Losses, and what one network costs.
    """
    problem, steps = _architectures.problem(space), config.train_steps
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps))

    @jax.jit
    def trained(key: jax.Array, architecture: Architecture, examples: Examples) -> Any:
        sizes = {"steps": steps, "batch_size": config.batch_size}
        return shn.train(problem, optimizer, key, architecture, examples, **sizes).params

    # Outside of the loop over the steps, where convolutions are fast.
    @jax.jit
    def measured(params: Any, architecture: Architecture, data: Data) -> tuple[jax.Array, ...]:
        losses = (problem.valid_loss(params, architecture, part) for part in data[1:])
        made = _architectures.logits(space, params, architecture, data.test.inputs)
        wrong = jnp.argmax(made, -1) != jnp.argmax(data.test.targets, -1)
        return (*losses, jnp.mean(wrong))

    of_one = trained.lower(jax.random.key(0), architectures[0], data.train).compile()
    seconds, found = 0.0, []
    for seed in config.seeds:
        for architecture in architectures:
            began = time.perf_counter()
            params = of_one(jax.random.key(seed), architecture, data.train)
            jax.block_until_ready(params)
            seconds += time.perf_counter() - began
            found.append([float(each) for each in measured(params, architecture, data)])
    shaped = np.array(found).reshape(len(config.seeds), len(architectures), -1)
    return Losses(*np.moveaxis(shaped, -1, 0)), Cost(steps, seconds / len(found))


def scorer(
    problem: Problem, hypernet: Hypernet, hypernet_params: Sequence[Params], examples: Examples
) -> Callable[[Sequence[Architecture]], np.ndarray]:
    """A function from architectures to the losses of the weights that hypernets make for them.

    Args:
      problem: of the networks.
      hypernet: of all.
      hypernet_params: φ of each.
      examples: that the losses are of.

    Returns:
      `score(architectures)`, cross-entropies in nats, shape (hypernets, architectures).
    """

    @jax.jit
    def loss(phi: Params, architecture: Architecture, examples: Examples) -> jax.Array:
        return problem.valid_loss(hypernet.apply(phi, architecture), architecture, examples)

    def score(architectures: Sequence[Architecture]) -> np.ndarray:
        return np.array(
            [
                [float(loss(phi, each, examples)) for each in architectures]
                for phi in hypernet_params
            ]
        )

    return score
