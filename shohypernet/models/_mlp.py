"""The multilayer perceptron of the paper's experiments."""

from collections.abc import Sequence

import flax.linen as nn
import jax


class MLP(nn.Module):
    """Dense layers with ReLU between them; without hidden layers, a linear model.

    Every weight and bias starts from N(0, init_scale²), as in the paper.

    Attributes:
      outputs: width of the last layer.
      hidden: widths of the hidden layers.
      init_scale: standard deviation of the initial weights.
    """

    outputs: int = 10
    hidden: Sequence[int] = ()
    init_scale: float = 0.01

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map inputs, shape (..., features), to outputs, shape (..., outputs)."""
        initial = nn.initializers.normal(self.init_scale)
        for width in self.hidden:
            inputs = nn.relu(nn.Dense(width, kernel_init=initial, bias_init=initial)(inputs))
        return nn.Dense(self.outputs, kernel_init=initial, bias_init=initial)(inputs)
