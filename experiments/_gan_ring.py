"""A GAN on a ring of eight Gaussians as a bilevel problem, and its samples judged.

The generator's weights are λ, the discriminator's w, and both play for one value (Goodfellow et
al., 2014):

    L_train(w, λ) = −mean log σ(D_w(x)) − mean log σ(−D_w(G_λ(z))),    L_valid = −L_train

The ring: Metz, Poole, Pfau and Sohl-Dickstein (2017), "Unrolled Generative Adversarial Networks",
arXiv:1611.02163.
"""

import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params

MODES = 8
RADIUS = 2.0
ANGLES = 2 * np.pi * np.arange(MODES) / MODES
CENTERS = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def examples(key: Key, count: int, deviation: float) -> jax.Array:
    """Points of the ring, shape (count, 2)."""
    key_mode, key_noise = jax.random.split(key)
    modes = jax.random.randint(key_mode, (count,), 0, MODES)
    noise = jax.random.normal(key_noise, (count, 2))
    return jnp.asarray(CENTERS, jnp.float32)[modes] + deviation * noise


def batch(key: Key, count: int, config: Any) -> Batch:
    """Points of the ring, and latent points for as many samples."""
    key_examples, key_latents = jax.random.split(key)
    latents = jax.random.normal(key_latents, (count, config.latent))
    return examples(key_examples, count, config.deviation), latents


def generator(key: Key, config: Any) -> Hyperparams:
    """λ: kernel and bias of each layer, the kernels orthogonal."""
    widths = (config.latent, *[config.units] * config.layers, 2)
    initial = jax.nn.initializers.orthogonal()
    keys = jax.random.split(key, len(widths) - 1)
    pairs = zip(keys, itertools.pairwise(widths), strict=True)
    return [(initial(key, pair), jnp.zeros(pair[1])) for key, pair in pairs]


def generated(hyperparams: Hyperparams, latents: jax.Array) -> jax.Array:
    """G_λ(z), shape (n, 2)."""
    *hidden, (kernel, bias) = hyperparams
    for each, shift in hidden:
        latents = jnp.tanh(latents @ each + shift[None])
    return latents @ kernel + bias[None]


def build(config: Any) -> Problem:
    """The problem, whose batches are those of `batch`."""
    layers = [layer for _ in range(config.layers) for layer in (nn.Dense(config.units), nn.relu)]
    model = nn.Sequential([*layers, nn.Dense(1)])

    def train_loss(params: Params, hyperparams: Hyperparams, batch: Batch, key: Any) -> jax.Array:
        real, latents = batch
        points = jnp.concatenate([real, generated(hyperparams, latents)])
        logits: Any = model.apply({"params": params}, points)
        signs = jnp.where(jnp.arange(len(points)) < len(real), -1.0, 1.0)
        return 2 * jnp.mean(jax.nn.softplus(signs * logits[:, 0]))

    return Problem(
        init=lambda key: model.init(key, jnp.zeros((1, 2)))["params"],
        train_loss=train_loss,
        valid_loss=lambda params, hyperparams, batch: -train_loss(params, hyperparams, batch, None),
        space=shn.hyperparameters.real(),
    )


class Quality(NamedTuple):
    """How good samples are.

    Attributes:
      modes: modes with a share of a hundredth of the samples, good ones, or more; of 8.
      good: share of samples within three standard deviations of a mode.
    """

    modes: np.ndarray
    good: np.ndarray


def judged(samples: np.ndarray, deviation: float) -> Quality:
    """Quality of samples, shape (..., n, 2)."""
    distances = np.linalg.norm(samples[..., None, :] - CENTERS, axis=-1)
    good = distances <= 3 * deviation  # of one mode at most
    shares = good.mean(-2)
    return Quality(np.sum(shares >= 0.01, axis=-1), shares.sum(-1))
