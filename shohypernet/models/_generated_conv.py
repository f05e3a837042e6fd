"""Static hypernetworks: convolutions whose kernels a small network generates from embeddings.

    a_i = W₂_i z + c_i,    K_i = W₁ a_i + c₁    for each input channel i

z is learned, one for each tile of a kernel, and so are W₁, W₂, c₁ and c₂, which any number of
layers may share. A 7×7×16×16 kernel of 12,544 numbers takes 4,240 of them and a z of four.

With W₁ ~ N(0, 1/hidden), W₂ ~ N(0, 1/embedding) and no offsets at first, the variance of K is that
of z. So each layer draws its z with the variance that its own fan-in asks of K, and no layer
changes the generator's initial weights for another. (Chang, Flokas and Lipson put the fan-in into
W₁, which layers of different sizes then can't share.)

Ha, Dai and Le (2016), "HyperNetworks", arXiv:1609.09106, section 3.1; Chang, Flokas and Lipson
(2020), "Principled weight initialization for hypernetworks", arXiv:2312.08399.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from shohypernet._internal import validation


class KernelGenerator(nn.Module):
    """The network from an embedding to a tile of a convolution's kernel.

    Attributes:
      kernel_size: spatial sizes of the tile.
      in_features: its input channels.
      features: its output channels.
      hidden: length of a_i.
    """

    kernel_size: Sequence[int]
    in_features: int
    features: int
    hidden: int = 4

    @nn.compact
    def __call__(self, embedding: jax.Array) -> jax.Array:
        """Map embeddings, shape (..., d), to tiles, shape (..., *kernel_size, inputs, features)."""
        window, inputs, size = tuple(self.kernel_size), self.in_features, embedding.shape[-1]
        tile = (self.hidden, *window, self.features)
        # No `nn.Dense`, whose inputs a Kronecker Jacobian would take for examples.
        outer = self.param("W1", _rows_of(self.hidden), tile)
        outer_offset = self.param("W1_bias", nn.initializers.zeros, tile[1:])
        inner = self.param("W2", _rows_of(size), (inputs, size, self.hidden))
        inner_offset = self.param("W2_bias", nn.initializers.zeros, (inputs, self.hidden))
        hidden = jnp.einsum("...d,ida->...ia", embedding, inner)
        hidden += jnp.broadcast_to(inner_offset, hidden.shape)
        made = jnp.tensordot(hidden, outer, 1)  # (..., inputs, *window, features)
        made += jnp.broadcast_to(outer_offset, made.shape)
        return jnp.moveaxis(made, embedding.ndim - 1, -2)


def _rows_of(inputs: int) -> Any:
    """Initial numbers whose product with `inputs` of variance 1 has variance 1."""
    return nn.initializers.normal(inputs**-0.5)


class GeneratedConv(nn.Conv):
    """`nn.Conv` whose kernel is generated from learned embeddings, one for each of its tiles.

    Layers share a generator by being given the same one, in the `setup` or `__call__` of the model
    that owns it:

        generator = KernelGenerator((3, 3), 16, 16)
        x = GeneratedConv(16, (3, 3), generator=generator)(x)  # one tile
        x = GeneratedConv(64, (3, 3), generator=generator)(x)  # four

    Attributes:
      embedding_size: length of each z.
      hidden: length of a_i in a generator of its own.
      generator: makes the tiles, which the kernel's channels must be multiples of; None for one of
        its own, whose tile is the whole kernel.
    """

    embedding_size: int = 4
    hidden: int = 4
    generator: KernelGenerator | None = None

    @nn.nowrap
    def param(self, name: str, init_fn: Any, *args: Any, **kwargs: Any) -> Any:
        """The parameter of `nn.Conv`, or in place of its kernel what is generated.

        Raises:
          ValueError: for sizes below 1, or a kernel that the generator's tiles don't fill.
        """
        if name != "kernel":
            return super().param(name, init_fn, *args, **kwargs)
        shape, dtype = args
        *window, inputs, outputs = shape
        generator = self.generator
        if generator is None:
            validation.whole(
                "GeneratedConv", embedding_size=self.embedding_size, hidden=self.hidden
            )
            generator = KernelGenerator(window, inputs, outputs, self.hidden, name="generator")
        tiles = _tiles(generator, shape)
        initial = nn.initializers.normal(math.prod(shape[:-1]) ** -0.5)
        embeddings = super().param("embeddings", initial, (*tiles, self.embedding_size), dtype)
        made = generator(embeddings)  # (rows of tiles, columns, *window, inputs, features)
        axes = len(window)
        made = jnp.moveaxis(made, (0, 1), (axes, axes + 2))
        return made.reshape(shape)


def _tiles(generator: KernelGenerator, shape: Sequence[int]) -> tuple[int, int]:
    """Numbers of tiles along the input and the output channels of a kernel."""
    *window, inputs, outputs = shape
    tile = (*generator.kernel_size, generator.in_features, generator.features)
    fits = tile[:-2] == tuple(window) and not inputs % tile[-2] and not outputs % tile[-1]
    validation.require(
        fits,
        f"GeneratedConv needs a kernel that tiles of shape {tile} fill, got {tuple(shape)}: take "
        "the same kernel_size, and channels that are multiples of the tile's.",
    )
    return inputs // tile[-2], outputs // tile[-1]
