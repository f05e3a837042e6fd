"""A hypernet for large models: one small network makes all weights, a chunk at a time.

    w_c = m + s g (W₂ σ(W₁ e_c + U (λ − λ₀) + b₁) + b₂)    for each chunk c of an array of weights

Only the embedding e_c is a chunk's own, and only the gain g an array's. So φ has embedding / chunk
numbers for a weight and a network that doesn't grow with them, where a layer of H units in front of
all weights has H numbers for each.

Generated weights should start with the variances that the model asks for, by whatever rule of its
own. Principled initialization of hypernetworks (2312.08399) puts each layer's fan-in into an
output layer for it; here all share one of unit variance, m and s are the mean and the deviation of
each array of weights as the model makes them, and g corrects for the embeddings that were drawn.
m and s stay: a step of an optimizer that suits φ would be a large part of them where the fan-in is.

Ha, Dai and Le (2016), "HyperNetworks", arXiv:1609.09106; Chang, Flokas and Lipson (2020),
"Principled weight initialization for hypernetworks", arXiv:2312.08399.
"""

import itertools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, ravel, require_floating
from shohypernet.types import Hyperparams, Key, Params

RESPONSE = 0.01  # of a hidden unit before its nonlinearity, to λ − λ₀ ~ N(0, I)


@flax.struct.dataclass
class ChunkedParams:
    """φ of `chunked`.

    Attributes:
      start: λ₀, shape (n,), which isn't trained.
      embeddings: e_c of all chunks, shape (chunks, embedding).
      hidden_kernel: W₁, shape (embedding, hidden).
      slope: U, shape (n, hidden).
      hidden_bias: b₁, shape (hidden,).
      kernel: W₂, shape (hidden, chunk).
      bias: b₂, shape (chunk,).
      means: m, a tree like w of scalars, which aren't trained.
      scales: s, likewise; 1 for an array without a deviation, such as biases at zero, whose gain
        starts at 0.
      gains: g, likewise, which are.
      shapes: of the arrays of w, in the order of the tree.
      dtypes: likewise.
    """

    start: jax.Array
    embeddings: jax.Array
    hidden_kernel: jax.Array
    slope: jax.Array
    hidden_bias: jax.Array
    kernel: jax.Array
    bias: jax.Array
    means: Any
    scales: Any
    gains: Any
    shapes: tuple[tuple[int, ...], ...] = flax.struct.field(pytree_node=False)
    dtypes: tuple[str, ...] = flax.struct.field(pytree_node=False)


def chunked(chunk: int = 1_024, *, embedding: int = 16, hidden: int = 64) -> Hypernet:
    """w_c = m + s g (W₂ tanh(W₁ e_c + U (λ − λ₀) + b₁) + b₂) for each chunk of the weights.

    At first the weights at λ₀, where a run starts, have the means and deviations of the model's
    own, array by array. They aren't the model's own, which would take a number for each. λ₀, the
    means and the deviations have no gradient; an optimizer that decays all of φ, such as `adamw`,
    shrinks them too: mask it.

    Args:
      chunk: most weights made at once; that many take `hidden` numbers each.
      embedding: length of e_c, which each chunk has to itself.
      hidden: units of the network; making the weights takes that many products for each.

    Returns:
      A Hypernet with (embedding / chunk)·D + (embedding + n + 1)·hidden + (hidden + 1)·chunk
      numbers for D weights and n hyperparameters, and three for each array. Its `init` raises a
      ValueError for shapes in place of weights.

    Raises:
      ValueError: for a size below 1.
    """
    validation.whole("chunked", chunk=chunk, embedding=embedding, hidden=hidden)

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> ChunkedParams:
        require_floating(params)
        leaves, treedef = jax.tree.flatten(params)
        _require_weights(leaves)
        length = max(1, min(chunk, max(leaf.size for leaf in leaves)))
        count = sum(-(-leaf.size // length) for leaf in leaves)
        deviations = jax.tree.map(_deviation, params)
        start, keys = ravel(hyperparams).astype(jnp.float32), jax.random.split(key, 4)

        def drawn(key: Key, inputs: int, outputs: int, scale: float = 1.0) -> jax.Array:
            return scale / math.sqrt(max(1, inputs)) * jax.random.normal(key, (inputs, outputs))

        phi: Any = ChunkedParams(
            start=start,
            embeddings=jax.random.normal(keys[0], (count, embedding)),
            hidden_kernel=drawn(keys[1], embedding, hidden),
            slope=drawn(keys[2], start.size, hidden, RESPONSE),
            hidden_bias=jnp.zeros(hidden),
            kernel=drawn(keys[3], hidden, length),
            bias=jnp.zeros(length),
            means=jax.tree.map(_mean, params),
            scales=jax.tree.map(lambda each: jnp.where(each > 0, each, 1.0), deviations),
            gains=None,
            shapes=tuple(leaf.shape for leaf in leaves),
            dtypes=tuple(str(leaf.dtype) for leaf in leaves),
        )
        gains = [
            (each > 0) / jnp.sqrt(jnp.mean(units**2)) if units.size else 0.0
            for each, units in zip(
                jax.tree.leaves(deviations), _by_array(phi, _units(phi, start)), strict=True
            )
        ]
        return phi.replace(gains=jax.tree.unflatten(treedef, gains))

    def apply(hypernet_params: ChunkedParams, hyperparams: Hyperparams) -> Params:
        phi = hypernet_params
        gains, treedef = jax.tree.flatten(phi.gains)
        held = jax.lax.stop_gradient((phi.means, phi.scales))
        means, scales = map(jax.tree.leaves, held)
        # One product for all: of several, XLA (jaxlib 0.10.2, CPUs) makes a gradient that crashes.
        chunks = _units(phi, ravel(hyperparams)) @ phi.kernel + phi.bias[None]

        arrays = zip(
            _by_array(phi, chunks), means, scales, gains, phi.shapes, phi.dtypes, strict=True
        )
        made = [
            (mean + scale * gain * rows.ravel()[: math.prod(shape)]).reshape(shape).astype(dtype)
            for rows, mean, scale, gain, shape, dtype in arrays
        ]
        return jax.tree.unflatten(treedef, made)

    return Hypernet(init, apply)


def _units(phi: ChunkedParams, flat: jax.Array) -> jax.Array:
    """The hidden units of all chunks, shape (chunks, hidden), at a λ of shape (n,)."""
    moved = flat.astype(phi.slope.dtype) - jax.lax.stop_gradient(phi.start)
    inputs = phi.embeddings @ phi.hidden_kernel + (moved @ phi.slope + phi.hidden_bias)[None]
    return jnp.tanh(inputs)


def _by_array(phi: ChunkedParams, rows: jax.Array) -> list[jax.Array]:
    """Rows of all chunks as those of each array."""
    counts = [-(-math.prod(shape) // phi.bias.size) for shape in phi.shapes]
    ends = list(itertools.accumulate(counts))
    return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _mean(leaf: Any) -> jax.Array:
    return jnp.sum(_wide(leaf)) / max(1, leaf.size)


def _deviation(leaf: Any) -> jax.Array:
    return jnp.sqrt(jnp.sum((_wide(leaf) - _mean(leaf)) ** 2) / max(1, leaf.size))


def _wide(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.float32))


def _require_weights(leaves: list[Any]) -> None:
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        raise ValueError(
            "chunked() starts with means and deviations of the model's weights, but got their "
            "shapes alone; give init the weights, as problem.init makes them."
        )
