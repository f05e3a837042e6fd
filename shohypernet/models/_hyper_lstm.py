"""The HyperLSTM: an LSTM whose weights a smaller LSTM scales, row by row, in each step.

    ĥ′ = LSTM^(ĥ, [x, h]),                       the hypernetwork
    z_x = W ĥ′ + 1,   z_h = W ĥ′ + 1,   z_b = W ĥ′,    each with a W of its own, for each gate
    gate = LN(D_x z_x ∘ W_x x + D_h z_h ∘ W_h h + D_b z_b + b)

W = 0 at first but for z_b's, which is N(0, 0.01²), every entry of D_x and D_h is 0.1 / embedding,
and D_b = 0: so without LayerNorm it starts as the LSTM with all its weights times 0.1.

Ha, Dai and Le (2016), "HyperNetworks", arXiv:1609.09106, section 3.2 and appendix A.2.2.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from shohypernet.models import _lstm as lstm
from shohypernet.models._lstm import GATES, Carry, LayerNormLSTMCell

START_SCALE = 0.1  # of the weights, which suits recurrent nets with normalization


class HyperLSTMCell(nn.RNNCellBase):
    """LSTM whose weights are scaled by a smaller LSTM, for `nn.RNN`.

    Attributes:
      features: number of units.
      hyper_features: number of units of the smaller LSTM.
      embedding: length of each z.
      layer_norm: whether gates and memory are normalized, in both LSTMs.
      forget_bias: added to f.
    """

    features: int
    hyper_features: int = 128
    embedding: int = 16
    layer_norm: bool = True
    forget_bias: float = 1.0

    @nn.compact
    def __call__(
        self, carry: tuple[Carry, Carry], inputs: jax.Array
    ) -> tuple[tuple[Carry, Carry], jax.Array]:
        """Make a step with inputs of shape (..., d); return the new carry, and h."""
        own, hyper = carry
        small: Any = LayerNormLSTMCell if self.layer_norm else nn.OptimizedLSTMCell
        hyper, signal = small(self.hyper_features, name="hyper")(
            hyper, jnp.concatenate([inputs, own[1]], axis=-1)
        )
        from_inputs = lstm.gates_kernel(self.features, nn.initializers.lecun_normal(), "inputs")
        recurrent = lstm.gates_kernel(self.features, nn.initializers.orthogonal(), "recurrent")
        sizes = self.features, self.embedding
        gates = _Scales(*sizes, name="input_scales")(signal) * from_inputs(inputs)
        gates += _Scales(*sizes, name="recurrent_scales")(signal) * recurrent(own[1])
        gates += _Biases(*sizes, name="biases")(signal)
        if self.layer_norm:
            own, hidden = lstm.normalized_step(own, gates, self.forget_bias)
        else:
            own, hidden = lstm.step(own, gates, self.forget_bias)
        return (own, hyper), hidden

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> tuple[Carry, Carry]:
        """Zeros for inputs of a shape."""
        own = lstm.zero_carry(self.features, input_shape)
        return own, lstm.zero_carry(self.hyper_features, input_shape)

    @property
    def num_feature_axes(self) -> int:
        """1: inputs are vectors."""
        return 1


class _Scales(nn.Module):
    """D (W ĥ + 1), a number for each unit of each gate."""

    features: int
    embedding: int

    @nn.compact
    def __call__(self, signal: jax.Array) -> jax.Array:
        initial: Any = {"kernel_init": nn.initializers.zeros, "bias_init": nn.initializers.ones}
        z = nn.DenseGeneral((GATES, self.embedding), **initial)(signal)
        initial_scale = nn.initializers.constant(START_SCALE / self.embedding)
        generator = self.param("D", initial_scale, (GATES, self.embedding, self.features))
        return jnp.einsum("...ge,gef->...gf", z, generator)


class _Biases(nn.Module):
    """D W ĥ + b, a number for each unit of each gate."""

    features: int
    embedding: int

    @nn.compact
    def __call__(self, signal: jax.Array) -> jax.Array:
        initial = nn.initializers.normal(0.01)
        z = nn.DenseGeneral((GATES, self.embedding), use_bias=False, kernel_init=initial)(signal)
        zeros = nn.initializers.zeros
        generator = self.param("D", zeros, (GATES, self.embedding, self.features))
        bias = self.param("bias", zeros, (GATES, self.features))
        made = jnp.einsum("...ge,gef->...gf", z, generator)
        return made + jnp.broadcast_to(bias, made.shape)
