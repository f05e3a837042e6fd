"""Upright digits to learn from, and a camera that is mounted at an angle nobody wrote down.

    L_train(w, λ) = cross-entropy(w, images turned by the angle) + ½ decay ‖w‖²
    L_valid(w)    = cross-entropy(w, images that the camera took),    w of a linear classifier

Digits turned by a wrong angle look like others (a 6 is a 9), so that the validation loss has minima
at wrong angles too. That the camera's images are turned is ours; all else about them is real.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _decay_problem
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data, Examples
from shohypernet.datasets import CLASSES
from shohypernet.hypernets import Hypernet
from shohypernet.problem import Problem
from shohypernet.samplers import Sampler
from shohypernet.types import Batch, Hyperparams, Key, Params

SIDE = 14  # of an image, half of MNIST's
PIXELS = SIDE * SIDE


def load_data(config: Any) -> Data:
    """Images of 14 × 14, flat; those to validate and test on as the camera took them."""
    mounted = turning(jnp.float32(np.radians(config.mounted)))

    def small(split: Any) -> Examples:
        halved = jnp.reshape(split.inputs, (-1, SIDE, 2, SIDE, 2)).mean((2, 4))
        return Examples(halved.reshape(-1, PIXELS), jnp.argmax(split.targets, -1))

    train, valid, test = map(small, _decay_problem.load_data(config))
    turned = [split._replace(inputs=split.inputs @ mounted.T) for split in (valid, test)]
    return Data(train, *turned)


def turning(angle: jax.Array) -> jax.Array:
    """Matrix (196, 196) that turns a flat image clockwise, by bilinear interpolation."""
    center = (SIDE - 1) / 2
    rows, columns = jnp.meshgrid(*2 * [jnp.arange(SIDE) - center], indexing="ij")
    along = jnp.cos(angle) * rows - jnp.sin(angle) * columns + center
    across = jnp.sin(angle) * rows + jnp.cos(angle) * columns + center

    def shares(places: jax.Array) -> jax.Array:
        """Share of each row (or column) in what is seen at a place."""
        return jnp.maximum(0.0, 1.0 - jnp.abs(places.reshape(-1, 1) - jnp.arange(SIDE)[None]))

    each = shares(along)[:, :, None] * shares(across)[:, None, :]
    return each.reshape(PIXELS, PIXELS)


def problem_on(config: Any, angle: hp.Spec) -> Problem:
    """The problem, its angle in radians in a space of the caller's, its decay log-uniform."""

    def init(key: Key) -> Params:
        kernel = 0.01 * jax.random.normal(key, (PIXELS, CLASSES))
        return {"kernel": kernel, "bias": jnp.zeros(CLASSES)}

    def loss(kernel: jax.Array, bias: jax.Array, batch: Examples) -> jax.Array:
        logits = batch.inputs @ kernel + bias[None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets).mean()

    def train_loss(params: Params, hyperparams: Hyperparams, batch: Batch, key: Key) -> jax.Array:
        del key
        # (X Rᵀ) W = X (Rᵀ W): ten images of weights are turned in place of a hundred of digits.
        kernel = turning(hyperparams["angle"]).T @ params["kernel"]
        penalty = hyperparams["decay"] * jnp.sum(params["kernel"] ** 2) / 2
        return loss(kernel, params["bias"], batch) + penalty

    def valid_loss(params: Params, hyperparams: Hyperparams, batch: Batch) -> jax.Array:
        del hyperparams
        return loss(params["kernel"], params["bias"], batch)

    decay = hp.log(prior=(np.exp(config.decay_low), np.exp(config.decay_high)))
    return Problem(init, train_loss, valid_loss, {"angle": angle, "decay": decay})


def broad(config: Any) -> Sampler:
    """Sampler of p(λ): any angle, and a log-uniform decay."""

    def sample(key: Key, hyperparams: Hyperparams) -> Hyperparams:
        del hyperparams
        key_angle, key_decay = jax.random.split(key)
        decay = jax.random.uniform(key_decay, minval=config.decay_low, maxval=config.decay_high)
        return {"angle": jax.random.uniform(key_angle, minval=-np.pi, maxval=np.pi), "decay": decay}

    return sample


def near(config: Any) -> Sampler:
    """Sampler of p(λ | λ̂): normal, with deviations of their own for angle and log decay."""

    def sample(key: Key, hyperparams: Hyperparams) -> Hyperparams:
        angle, decay = jax.random.normal(key, (2,))
        return {
            "angle": hyperparams["angle"] + config.angle_scale * angle,
            "decay": hyperparams["decay"] + config.decay_scale * decay,
        }

    return sample


def encoded(hypernet: Hypernet, config: Any) -> Hypernet:
    """A hypernet of waves in the angle, times 1, the log decay and its square."""
    middle = (config.decay_low + config.decay_high) / 2
    half = (config.decay_high - config.decay_low) / 2

    def features(hyperparams: Hyperparams) -> jax.Array:
        waves = jnp.arange(1.0, config.waves + 1) * hyperparams["angle"]
        periodic = jnp.concatenate([jnp.ones(1), jnp.cos(waves), jnp.sin(waves)])
        scaled = (hyperparams["decay"] - middle) / half
        return jnp.outer(scaled ** jnp.arange(3), periodic).ravel()[1:]  # its bias is the first

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> Params:
        return hypernet.init(key, params, features(hyperparams))

    def apply(hypernet_params: Params, hyperparams: Hyperparams) -> Params:
        return hypernet.apply(hypernet_params, features(hyperparams))

    return Hypernet(init, apply)


def bayesian(config: Any) -> Hypernet:
    """The Bayesian hypernet of both experiments: linear in the waves."""
    return shn.hypernets.bayesian(
        encoded(shn.hypernets.linear(init_scale=shn.hypernets.PAPER_INIT_SCALE), config),
        prior=shn.hypernets.gaussian_prior(config.prior_scale),
        init_deviation=config.init_deviation,
    )


def trained(
    problem: Problem, data: Data, keys: Any, hyperparams: Hyperparams, config: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Validation and test losses of models that are trained to the end.

    Args:
      problem: the problem.
      data: three splits.
      keys: a seed for each model, shape (models,).
      hyperparams: λ in natural units, leaves (models,).
      config: train_steps, train_learning_rate, batch_size.

    Returns:
      Both losses, each of shape (models,).
    """
    schedule = optax.cosine_decay_schedule(config.train_learning_rate, config.train_steps)

    @jax.jit
    def losses(keys: Any, hyperparams: Hyperparams, data: Data) -> Any:
        def one(each: tuple[Key, Hyperparams]) -> tuple[jax.Array, jax.Array]:
            key, lam = each
            steps, size = config.train_steps, config.batch_size
            model = shn.train(
                problem, optax.adam(schedule), key, lam, data.train, steps=steps, batch_size=size
            )
            valid, test = (problem.valid_loss(model.params, lam, split) for split in data[1:])
            return valid, test

        return jax.lax.map(one, (keys, hyperparams), batch_size=config.models_at_once)

    valid, test = losses(keys, hyperparams, data)
    return np.asarray(valid), np.asarray(test)
