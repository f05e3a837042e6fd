"""The LSTM with layer normalization, and what it shares with the HyperLSTM.

    c′ = σ(f + forget_bias) ∘ c + σ(i) ∘ tanh g,    h′ = σ(o) ∘ tanh LN(c′)

with a LayerNorm of its own for each of the gates i, f, g, o = LN(W_x x + W_h h).

Ba, Kiros and Hinton (2016), "Layer Normalization", arXiv:1607.06450; in the form that Ha, Dai and
Le (2016), arXiv:1609.09106, compare the HyperLSTM with.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

GATES = 4  # i, f, g and o, in the order of Flax

Carry = tuple[jax.Array, jax.Array]
"""c and h, each of shape (..., features)."""


class LayerNormLSTMCell(nn.RNNCellBase):
    """LSTM whose gates and memory are normalized, for `nn.RNN`.

    Attributes:
      features: number of units.
      forget_bias: added to f, so that the memory lasts at first.
    """

    features: int
    forget_bias: float = 1.0

    @nn.compact
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Make a step with inputs of shape (..., d); return the new carry, and h."""
        from_inputs = gates_kernel(self.features, nn.initializers.lecun_normal(), "inputs")
        recurrent = gates_kernel(self.features, nn.initializers.orthogonal(), "recurrent")
        gates = from_inputs(inputs) + recurrent(carry[1])
        return normalized_step(carry, gates, self.forget_bias)

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Zeros for inputs of a shape."""
        del rng
        return zero_carry(self.features, input_shape)

    @property
    def num_feature_axes(self) -> int:
        """1: inputs are vectors."""
        return 1


def zero_carry(features: int, input_shape: tuple[int, ...]) -> Carry:
    """Memory and hidden units at zero, for inputs of a shape."""
    zeros = jnp.zeros((*input_shape[:-1], features))
    return zeros, zeros


def gates_kernel(features: int, initial: Any, name: str) -> nn.DenseGeneral:
    """The product with a kernel for each gate, drawn by itself: (..., d) to (..., 4, features)."""

    def each(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
        rows = shape[0]
        drawn = [initial(key, (rows, features), dtype) for key in jax.random.split(key, GATES)]
        return jnp.concatenate(drawn, axis=1)

    return nn.DenseGeneral((GATES, features), use_bias=False, kernel_init=each, name=name)


def normalized_step(carry: Carry, gates: jax.Array, forget_bias: float) -> tuple[Carry, jax.Array]:
    """`step` with a LayerNorm for each gate, of shape (..., 4, features), and for the memory."""
    axes: Any = {"reduction_axes": -1, "feature_axes": (-2, -1)}
    gates = nn.LayerNorm(**axes, name="gates_norm")(gates)
    return step(carry, gates, forget_bias, nn.LayerNorm(name="memory_norm"))


def step(
    carry: Carry, gates: jax.Array, forget_bias: float, norm: Any = lambda memory: memory
) -> tuple[Carry, jax.Array]:
    """The new carry and h of gates before their nonlinearities, shape (..., 4, features)."""
    i, f, g, o = (gates[..., number, :] for number in range(GATES))
    memory = nn.sigmoid(f + forget_bias) * carry[0] + nn.sigmoid(i) * nn.tanh(g)
    hidden = nn.sigmoid(o) * nn.tanh(norm(memory))
    return (memory, hidden), hidden
