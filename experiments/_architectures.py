"""Small convolutional networks whose architecture is λ, a tree of zeros and ones.

    x ← ELU(conv(images))                            of 14 × 14 pixels, every second one: 7 × 7
    x ← ELU(conv(x)) + skip · x, for each block      x ← x for a block that isn't there
    logits = dense(x)

All have the weights of the largest network, and what an architecture lacks is masked: the last
outputs of a narrower layer, the border of a smaller kernel, the whole of a block that isn't there.
So all are one program. Masked weights count as 0, whatever they are, and have no gradient. Kernels
start from N(0, 1) and are multiplied by √(2 / inputs), with the inputs that the architecture has:
the scale of He et al. for the small network, so that weights of one size suit every width.

Brock et al. (2017), "SMASH: One-Shot Model Architecture Search through HyperNetworks",
arXiv:1708.05344.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet.batches import Examples
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.problem import Problem, param_shapes
from shohypernet.types import Key, Params

SIDE = 7  # pixels behind the first layer, in a row and in a column


class Space(NamedTuple):
    """Architectures to choose from; `build_space` checks them.

    Attributes:
      widths: channels that a layer may have, from the least to the most.
      kernels: sizes that its kernel may have, odd numbers from the least to the most.
      blocks: the most that follow the first layer; the fewest are 1.
    """

    widths: Sequence[int]
    kernels: Sequence[int]
    blocks: int


class Architecture(NamedTuple):
    """Choices for the first layer and each block, rows of zeros for a block that isn't there.

    Attributes:
      width: which of the widths, one-hot, shape (1 + blocks, widths).
      kernel: which of the kernels, one-hot, shape (1 + blocks, kernels).
      skip: whether the input is added to the output, shape (1 + blocks,); 0 for the first layer.
    """

    width: Any
    kernel: Any
    skip: Any


class Gates(NamedTuple):
    """What a network needs to know of a layer besides its masked weights.

    Attributes:
      present: 1, or 0 for a block that isn't there; scalar.
      skip: mask of the channels that are added to the output, shape (channels,).
    """

    present: jax.Array
    skip: jax.Array


def build_space(widths: Sequence[int], kernels: Sequence[int], blocks: int) -> Space:
    """A Space.

    Raises:
      ValueError: unless widths and kernels are positive and rise, kernels are odd, and there is a
        block.
    """
    for name, sizes in (("widths", widths), ("kernels", kernels)):
        if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"{name} must be positive and rise, got {tuple(sizes)}.")
    if any(size % 2 == 0 for size in kernels):
        raise ValueError(f"kernels must be odd, to have a middle, got {tuple(kernels)}.")
    if blocks < 1:
        raise ValueError(f"blocks must be 1 or more, got {blocks}.")
    return Space(tuple(widths), tuple(kernels), blocks)


def draw(space: Space, key: Key) -> Architecture:
    """A random architecture: the number of blocks is uniform, and so is every choice in each."""
    layers = 1 + space.blocks
    key_depth, key_width, key_kernel, key_skip = jax.random.split(key, 4)
    depth = jax.random.randint(key_depth, (), 1, layers)
    present = (jnp.arange(layers) <= depth).astype(jnp.float32)

    def one_hot(key: Key, choices: int) -> jax.Array:
        chosen = jax.random.randint(key, (layers,), 0, choices)
        return present[:, None] * jax.nn.one_hot(chosen, choices)

    skip = jax.random.bernoulli(key_skip, shape=(layers,)).at[0].set(False)
    return Architecture(
        one_hot(key_width, len(space.widths)),
        one_hot(key_kernel, len(space.kernels)),
        present * skip,
    )


def problem(space: Space) -> Problem:
    """The problem whose λ is an `Architecture`; its losses are cross-entropies without penalty."""
    network = _Network(space)

    def loss(params: Params, architecture: Architecture, batch: Examples) -> jax.Array:
        made = logits(space, params, architecture, batch.inputs)
        return jnp.mean(optax.softmax_cross_entropy(made, batch.targets))

    def init(key: Key) -> Params:
        none = Gates(jnp.ones(()), jnp.zeros(space.widths[-1]))
        images = jnp.zeros((1, math.prod(IMAGE_SHAPE)))
        return network.init(key, images, [none] * (1 + space.blocks))["params"]

    return Problem(
        init=init,
        train_loss=lambda params, architecture, batch, key: loss(params, architecture, batch),
        valid_loss=loss,
    )


def logits(
    space: Space, params: Params, architecture: Architecture, images: jax.Array
) -> jax.Array:
    """Logits of flat images, shape (n, classes), by the network of an architecture."""
    weights, gates = masked(space, params, architecture)
    made: Any = _Network(space).apply({"params": weights}, images, gates)
    return made


class _Network(nn.Module):
    """The largest network, of weights that are masked already."""

    space: Space

    @nn.compact
    def __call__(self, images: jax.Array, gates: Sequence[Gates]) -> jax.Array:
        """Logits of flat images, shape (n, pixels)."""
        initial = nn.initializers.normal(1.0)
        channels, largest = self.space.widths[-1], self.space.kernels[-1]
        kernel, sizes = (largest, largest), {"padding": largest // 2, "kernel_init": initial}
        made = nn.avg_pool(images.reshape(-1, *IMAGE_SHAPE, 1), (2, 2), (2, 2))
        made = nn.elu(nn.Conv(channels, kernel, 2, name="conv_0", **sizes)(made))
        for i, (present, skip) in enumerate(gates[1:], 1):
            through = nn.elu(nn.Conv(channels, kernel, name=f"conv_{i}", **sizes)(made))
            through += skip[None, None, None] * made
            made = present * through + (1 - present) * made
        made = made.reshape(len(made), -1)
        return nn.Dense(CLASSES, kernel_init=initial, name="head")(made)


def masked(space: Space, params: Params, architecture: Architecture) -> tuple[Params, list[Gates]]:
    """Weights of an architecture, with zeros for what it lacks, and the gates of its layers."""
    channels = np.arange(space.widths[-1])
    of_width = jnp.array([channels < each for each in space.widths], jnp.float32)
    largest = space.kernels[-1]
    away = np.abs(np.arange(largest) - largest // 2)  # rows or columns from the kernel's middle
    farthest = np.maximum.outer(away, away)
    of_kernel = jnp.array([farthest <= each // 2 for each in space.kernels], jnp.float32)
    inputs = jnp.ones(1)  # a mask of the channels that come in
    weights, gates = {}, []
    for i in range(1 + space.blocks):
        width, kernel, skip = (leaf[i] for leaf in architecture)
        present, outputs = jnp.sum(width), width @ of_width
        taps = jnp.tensordot(kernel, of_kernel, 1)
        layer = params[f"conv_{i}"]
        weights[f"conv_{i}"] = {
            "kernel": _scaled(layer["kernel"], jnp.einsum("hw,i,o->hwio", taps, inputs, outputs)),
            "bias": layer["bias"] * outputs,
        }
        gates.append(Gates(present, skip * outputs))
        inputs = present * outputs + (1 - present) * inputs
    head = params["head"]
    weights["head"] = {
        **head,
        "kernel": _scaled(head["kernel"], jnp.tile(inputs, SIDE**2)[:, None]),
    }
    return weights, gates


def _scaled(kernel: jax.Array, mask: jax.Array) -> jax.Array:
    """A masked kernel, times √(2 / inputs); the first output is there if any is."""
    inputs = jnp.maximum(jnp.sum(mask[..., 0]), 1)
    return kernel * jnp.broadcast_to(mask, kernel.shape) * jnp.sqrt(2 / inputs)


def size(space: Space, architecture: Architecture) -> int:
    """Number of weights that an architecture has."""
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), param_shapes(problem(space)))
    weights, _ = masked(space, ones, architecture)
    return sum(int(jnp.sum(leaf != 0)) for leaf in jax.tree.leaves(weights))


def distinct(space: Space, key: Key, count: int) -> list[Architecture]:
    """Random architectures that differ, in the order in which they are drawn.

    Raises:
      ValueError: if twenty times as many draws don't hold so many.
    """
    drawn = jax.vmap(lambda key: draw(space, key))(jax.random.split(key, 20 * count))
    drawn = jax.tree.map(np.asarray, drawn)
    flat = np.hstack([leaf.reshape(len(leaf), -1) for leaf in drawn])
    first = np.sort(np.unique(flat, axis=0, return_index=True)[1])[:count]
    if len(first) < count:
        raise ValueError(
            f"{20 * count} draws held {len(first)} different architectures and not {count}: ask "
            "for fewer, or allow more widths, kernels or blocks."
        )
    return [jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i in first]
