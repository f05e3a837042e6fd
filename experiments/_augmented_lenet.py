"""LeNet-5 with seventeen hyperparameters: augmentations, dropout, smoothing and weight decays.

    L_train(w, λ) = E_{x, ξ}[CE(f(ξ_λ(x); w, ξ_λ), y_λ)] + Σ_l λ_l ‖W_l‖²,    L_valid(w) = CE

LeCun et al. (1998), "Gradient-Based Learning Applied to Document Recognition", with ReLU, maximum
pooling and dropout.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from shohypernet import regularizers
from shohypernet.batches import Data, Examples
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.problem import Problem

OFF = 1e-6  # of a bounded strength, whose bound itself has no unconstrained counterpart
LEAST_DECAY = 1e-8


class LeNet(nn.Module):
    """Two convolutions and three dense layers, with dropout behind all but the last.

    Attributes:
      channels: of the two convolutions, or of fewer.
      hidden: units of the two hidden dense layers.
    """

    channels: tuple[int, int] = (6, 16)
    hidden: tuple[int, int] = (120, 84)

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Logits of flat images, shape (n, pixels)."""
        made = inputs.reshape(-1, *IMAGE_SHAPE, 1)
        for i, (channels, padding) in enumerate(
            zip(self.channels, ("SAME", "VALID"), strict=False)
        ):
            made = nn.relu(nn.Conv(channels, (5, 5), padding=padding, name=f"conv_{i}")(made))
            made = nn.max_pool(made, (2, 2), (2, 2))
            # A channel at a time.
            drop = nn.Dropout(0.0, broadcast_dims=(1, 2), name=f"drop_{i}")
            made = drop(made, deterministic=not train)
        made = made.reshape(len(made), -1)
        for i, units in enumerate(self.hidden):
            made = nn.relu(nn.Dense(units, name=f"dense_{i}")(made))
            made = nn.Dropout(0.0, name=f"drop_{i + 2}")(made, deterministic=not train)
        return nn.Dense(CLASSES, name="dense_2")(made)


class Outcome(NamedTuple):
    """Cross-entropy, in nats, and error, a share, of a network on the test images."""

    loss: Any
    error: Any


def build(config: Any) -> Problem:
    """The problem; it starts from next to no regularization."""
    model: Any = LeNet(tuple(config.channels), tuple(config.hidden))
    every = [
        regularizers.translate(0.2, shape=IMAGE_SHAPE),
        regularizers.rotate(2.0, shape=IMAGE_SHAPE),
        regularizers.scale(0.02, shape=IMAGE_SHAPE),
        regularizers.cutout((1.2, 2.0), most_holes=3, longest_side=12, shape=IMAGE_SHAPE),
        regularizers.contrast(0.05, shape=IMAGE_SHAPE),
        regularizers.input_noise(0.05),
        regularizers.label_smoothing(0.02),
        regularizers.dropout(0.05),
        regularizers.weight_decay(1e-6, low=LEAST_DECAY),
    ]
    return shn.supervised(
        model,
        jnp.zeros((1, IMAGE_SHAPE[0] * IMAGE_SHAPE[1])),
        cross_entropy,
        regularizers=[each for each in every if each.name in config.regularizers],
        train_kwargs={"train": True},
    )


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats of one-hot targets."""
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def without_regularization(problem: Problem) -> Any:
    """Hyperparameters of the problem at which nothing happens."""
    off = jax.tree.map(lambda value: OFF, problem.start)
    return off | {"weight_decay": dict.fromkeys(off["weight_decay"], LEAST_DECAY * (1 + OFF))}


def one_decay(problem: Problem, decay: float) -> Any:
    """One weight decay for all layers, and nothing else."""
    off = without_regularization(problem)
    return off | {"weight_decay": dict.fromkeys(off["weight_decay"], decay)}


def optimizer(config: Any, steps: int) -> optax.GradientTransformation:
    """Adam on a cosine, for all networks."""
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps))


def retrainer(problem: Problem, data: Data, config: Any) -> Callable[[int, Any], Outcome]:
    """A function that trains a network from new initial weights, on both splits together.

    Args:
      problem: from `build`.
      data: three splits; training and validation images are joined, and the network is tested on
        the test images.
      config: of the experiment.

    Returns:
      `retrain(seed, recipe) -> Outcome`, a recipe being hyperparameters in natural units, or the
      history of a run, whose schedule is gone through again.
    """
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), data.train, data.valid)
    model: Any = LeNet(tuple(config.channels), tuple(config.hidden))
    sizes = {"steps": config.train_again_steps, "batch_size": config.batch_size}

    @jax.jit
    def outcome(key: jax.Array, recipe: Any, both: Examples, test: Examples) -> Outcome:
        hyperparams = recipe.schedule if isinstance(recipe, shn.History) else recipe
        alpha = optimizer(config, config.train_again_steps)
        params = shn.train(problem, alpha, key, hyperparams, both, **sizes).params
        logits: Any = model.apply({"params": params}, test.inputs)
        wrong = jnp.argmax(logits, -1) != jnp.argmax(test.targets, -1)
        return Outcome(cross_entropy(logits, test.targets), jnp.mean(wrong))

    def retrain(seed: int, recipe: Any) -> Outcome:
        # Seeds apart from those of the tuning.
        made = outcome(jax.random.key(1_000 + seed), recipe, both, data.test)
        return Outcome(*(float(value) for value in made))

    return retrain
