"""Flax modules: the elementary models that the experiments tune, and the inside of the hypernets."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax


class MLP(nn.Module):
    """Dense layers with an activation between them; with no hidden layer, a linear model.

    Every weight and bias starts from N(0, init_scale²), as in the paper.

    Attributes:
      outputs: width of the last layer.
      hidden: widths of the hidden layers.
      activation: elementwise function after each hidden layer.
      init_scale: standard deviation of the initial weights.
    """

    outputs: int = 10
    hidden: Sequence[int] = ()
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    init_scale: float = 0.01

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps inputs, shape (..., features), to outputs, shape (..., outputs)."""
        initial = nn.initializers.normal(self.init_scale)
        for width in self.hidden:
            hidden = nn.Dense(width, kernel_init=initial, bias_init=initial)(inputs)
            inputs = self.activation(hidden)
        return nn.Dense(self.outputs, kernel_init=initial, bias_init=initial)(inputs)
