"""A small network with dropout, shifts of its images and a weight decay per layer.

    L_train(w, λ) = E_{x, ξ}[CE(f(ξ_λ(x); w, ξ_λ), y)] + Σ_l decay_l ‖W_l‖²,    L_valid(w) = CE

ξ_λ are the stochastic terms: dropout and shifts of strengths λ.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _decay_problem
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data, Examples
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.problem import Problem

SHRINK = 2  # images of 14 × 14 pixels train four times as fast and look much the same
# The random search draws from its prior.
SPACE = {
    "input_dropout": hp.bounded(0.0, 0.8),
    "hidden_dropout": hp.bounded(0.0, 0.8),
    "shift": hp.log(prior=(0.1, 4.0)),
    "decay_0": hp.log(prior=(1e-6, 1e-2)),
    "decay_1": hp.log(prior=(1e-6, 1e-2)),
}


class Network(nn.Module):
    """One hidden layer, with dropout rates that may be traced numbers."""

    hidden: int
    init_scale: float

    @nn.compact
    def __call__(
        self, inputs: jax.Array, rates: tuple[Any, Any] = (0.0, 0.0), key: Any = None
    ) -> jax.Array:
        """Logits of inputs, shape (..., pixels); without a key nothing is dropped."""
        initial = nn.initializers.normal(self.init_scale)
        keys = (None, None) if key is None else jax.random.split(key)
        inputs = _dropout(keys[0], inputs, rates[0])
        hidden = nn.relu(nn.Dense(self.hidden, kernel_init=initial)(inputs))
        hidden = _dropout(keys[1], hidden, rates[1])
        return nn.Dense(CLASSES, kernel_init=initial)(hidden)


class Outcome(NamedTuple):
    """Final networks of one recipe: test loss and accuracy, shape (seeds,)."""

    loss: np.ndarray
    accuracy: np.ndarray


def load_data(config: Any) -> Data:
    """The three splits, each image shrunk by averages over squares of SHRINK × SHRINK pixels."""
    height, width = (size // SHRINK for size in IMAGE_SHAPE)

    def shrunk(examples: Examples) -> Examples:
        squares = examples.inputs.reshape(-1, height, SHRINK, width, SHRINK)
        return examples._replace(inputs=squares.mean((2, 4)).reshape(-1, height * width))

    return Data(*map(shrunk, _decay_problem.load_data(config)))


def build(config: Any) -> Problem:
    """The problem: cross-entropy with stochastic terms in training, and plain in validation."""
    model: Any = Network(config.hidden, config.init_scale)
    pixels = math.prod(IMAGE_SHAPE) // SHRINK**2

    def init(key: jax.Array) -> Any:
        return model.init(key, jnp.zeros((1, pixels)))["params"]

    def cross_entropy(logits: Any, targets: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy(logits, targets).mean()

    def train_loss(params: Any, hyperparams: Any, batch: Examples, key: jax.Array) -> jax.Array:
        key_shift, key_dropout = jax.random.split(key)
        normal = optax.tree.random_like(key_shift, jnp.zeros((2, len(batch.inputs), 1, 1)))
        inputs = shifted(batch.inputs, hyperparams["shift"] * normal)
        rates = hyperparams["input_dropout"], hyperparams["hidden_dropout"]
        logits = model.apply({"params": params}, inputs, rates, key_dropout)
        decay = {name: {"kernel": hyperparams[f"decay_{i}"]} for i, name in enumerate(params)}
        return cross_entropy(logits, batch.targets) + shn.penalties.weight_decay(params, decay)

    def valid_loss(params: Any, hyperparams: Any, batch: Examples) -> jax.Array:
        del hyperparams
        return cross_entropy(model.apply({"params": params}, batch.inputs), batch.targets)

    return Problem(init, train_loss, valid_loss, SPACE)


def shifted(inputs: jax.Array, offsets: jax.Array) -> jax.Array:
    """Images moved by fractions of pixels; what moves in is black.

    Between whole pixels it is interpolated linearly: with M_ij = max(0, 1 − |i − j − offset|) for
    rows and likewise N for columns, an image X becomes M X Nᵀ.

    Args:
      inputs: square images, shape (n, pixels).
      offsets: of rows and of columns, in pixels, shape (2, n, 1, 1).
    """
    side = math.isqrt(inputs.shape[1])
    place = jnp.arange(float(side))
    apart = (place[:, None] - place[None])[None, None] - offsets
    rows, columns = jnp.maximum(0.0, 1.0 - jnp.abs(apart))
    return (rows @ inputs.reshape(-1, side, side) @ columns.mT).reshape(inputs.shape)


def _dropout(key: Any, inputs: jax.Array, rate: Any) -> jax.Array:
    if key is None:
        return inputs
    kept = optax.tree.random_like(key, inputs, jax.random.uniform) >= rate
    return jnp.where(kept, inputs / (1 - rate), 0.0)


def weights_optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Adam on a cosine, for networks and for the hypernet."""
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps))


def train_again(
    problem: Problem, data: Data, recipes: dict[str, Any], config: Any
) -> dict[str, Outcome]:
    """Networks of each recipe from new initial weights, on training and validation images.

    Args:
      problem: from `build`.
      data: three splits; the networks are tested on the test images.
      recipes: hyperparameters in natural units, leaves (seeds,), by name.
      config: of the experiment.

    Returns:
      The outcome of each recipe, with one network per seed.
    """
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), data.train, data.valid)
    model: Any = Network(config.hidden, config.init_scale)
    optimizer = weights_optimizer(config, config.train_steps)
    sizes = {"steps": config.train_steps, "batch_size": config.batch_size}

    @jax.jit
    def outcomes(keys: jax.Array, hyperparams: Any, both: Examples, test: Examples) -> Any:
        def one(inputs: tuple[jax.Array, Any]) -> tuple[jax.Array, jax.Array]:
            key, chosen = inputs
            params = shn.train(problem, optimizer, key, chosen, both, **sizes).params
            logits: Any = model.apply({"params": params}, test.inputs)
            right = jnp.argmax(logits, -1) == jnp.argmax(test.targets, -1)
            return problem.valid_loss(params, chosen, test), jnp.mean(right)

        # Runs share nothing with each other, so one at a time is fastest on a CPU.
        return jax.lax.map(one, (keys, hyperparams))

    keys = jnp.stack([jax.random.key(1_000 + seed) for seed in config.seeds] * len(recipes))
    chosen = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *recipes.values())
    found = [
        np.asarray(leaf).reshape(len(recipes), -1)
        for leaf in outcomes(keys, chosen, both, data.test)
    ]
    return {name: Outcome(*(leaf[i] for leaf in found)) for i, name in enumerate(recipes)}
