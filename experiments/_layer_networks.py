"""Small networks of the layers that people train, for flat square images."""

import math
from typing import Any

import flax.linen as nn
import jax

from shohypernet.datasets import CLASSES


def _images(inputs: jax.Array) -> jax.Array:
    """Flat images with their axes back, shape (n, side, side)."""
    side = math.isqrt(inputs.shape[-1])
    return inputs.reshape(-1, side, side)


class LeNet(nn.Module):
    """Two convolutions and three dense layers (LeCun et al., 1998), with ReLU and maximum pooling.

    Attributes:
      channels: of the convolutions.
      hidden: units of the hidden dense layers.
    """

    channels: tuple[int, ...] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Logits, shape (n, classes)."""
        del train
        made = _images(inputs)[..., None]
        for i, channels in enumerate(self.channels):
            made = nn.relu(nn.Conv(channels, (5, 5), name=f"conv_{i}")(made))
            made = nn.max_pool(made, (2, 2), (2, 2))
        made = made.reshape(len(made), -1)
        for i, units in enumerate(self.hidden):
            made = nn.relu(nn.Dense(units, name=f"dense_{i}")(made))
        return nn.Dense(CLASSES, name="head")(made)


class ResNet(nn.Module):
    """Residual blocks of two convolutions with BatchNorm (He et al., 2015), arXiv:1512.03385.

    Attributes:
      channels: of each block; all but the first halve the image.
    """

    channels: tuple[int, ...] = (8, 16)

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Logits, shape (n, classes)."""

        def normalized(made: jax.Array, channels: int, size: int, stride: int, name: str) -> Any:
            window, strides = (size, size), (stride, stride)
            made = nn.Conv(channels, window, strides, use_bias=False, name=f"{name}_conv")(made)
            return nn.BatchNorm(not train, momentum=0.9, name=f"{name}_norm")(made)

        made = nn.relu(normalized(_images(inputs)[..., None], self.channels[0], 3, 1, "stem"))
        for i, channels in enumerate(self.channels):
            stride = 2 if i else 1
            inside = nn.relu(normalized(made, channels, 3, stride, f"block_{i}_a"))
            inside = normalized(inside, channels, 3, 1, f"block_{i}_b")
            skipped = normalized(made, channels, 1, stride, f"block_{i}_skip") if i else made
            made = nn.relu(inside + skipped)
        return nn.Dense(CLASSES, name="head")(made.mean((1, 2)))


class Transformer(nn.Module):
    """One block of attention (Vaswani et al., 2017), arXiv:1706.03762, over the rows of an image.

    Attributes:
      width: of a token.
      heads: of the attention.
    """

    width: int = 16
    heads: int = 2

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Logits, shape (n, classes)."""
        del train
        tokens = nn.Dense(self.width, name="embed")(_images(inputs))
        place = nn.initializers.normal(0.1)
        tokens += self.param("place", place, tokens.shape[1:])[None]
        attended = nn.LayerNorm(name="norm_0")(tokens)
        tokens += nn.MultiHeadDotProductAttention(self.heads, name="attention")(attended, attended)
        hidden = nn.Dense(2 * self.width, name="dense_0")(nn.LayerNorm(name="norm_1")(tokens))
        tokens += nn.Dense(self.width, name="dense_1")(nn.gelu(hidden))
        return nn.Dense(CLASSES, name="head")(nn.LayerNorm(name="norm_2")(tokens).mean(1))


class Recurrent(nn.Module):
    """A gated recurrent unit (Cho et al., 2014), arXiv:1406.1078, over the rows of an image.

    Attributes:
      units: of the cell.
    """

    units: int = 32

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Logits, shape (n, classes)."""
        del train
        states: Any = nn.RNN(nn.GRUCell(self.units), name="gru")(_images(inputs))
        return nn.Dense(CLASSES, name="head")(states[:, -1])


class Shared(nn.Module):
    """A dense layer that is applied several times.

    Attributes:
      times: how often.
      units: of the layer.
    """

    times: int = 2
    units: int = 50

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Logits, shape (n, classes)."""
        del train
        made = nn.relu(nn.Dense(self.units, name="first")(inputs))
        shared = nn.Dense(self.units, name="shared")
        for _ in range(self.times):
            made = nn.relu(shared(made))
        return nn.Dense(CLASSES, name="head")(made)
