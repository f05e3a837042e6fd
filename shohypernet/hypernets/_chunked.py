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
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, ravel, require_floating
from shohypernet.hypernets._started import StartedParams, require_weights
from shohypernet.types import Hyperparams, Key, Params

RESPONSE = 0.01  # of a hidden unit before its nonlinearity, to λ − λ₀ ~ N(0, I)


class Held(NamedTuple):
    """Numbers of `chunked` that aren't trained.

    Attributes:
      start: λ₀, shape (n,).
      means: m, a tree like w of scalars.
      scales: s, likewise; 1 for an array without a deviation, such as biases at zero, whose gain
        starts at 0.
    """

    start: jax.Array
    means: Any
    scales: Any


@flax.struct.dataclass
class ChunkedParams:
    """Numbers of `chunked` that are.

    Attributes:
      embeddings: e_c of all chunks, shape (chunks, embedding).
      hidden_kernel: W₁, shape (embedding, hidden).
      slope: U, shape (n, hidden).
      hidden_bias: b₁, shape (hidden,).
      kernel: W₂, shape (hidden, chunk).
      bias: b₂, shape (chunk,).
      gains: g, a tree like w of scalars.
      shapes: of the arrays of w, in the order of the tree.
      dtypes: likewise.
    """

    embeddings: jax.Array
    hidden_kernel: jax.Array
    slope: jax.Array
    hidden_bias: jax.Array
    kernel: jax.Array
    bias: jax.Array
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

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> StartedParams:
        require_floating(params)
        require_weights("chunked", params)
        leaves, treedef = jax.tree.flatten(params)
        length = max(1, min(chunk, max(leaf.size for leaf in leaves)))
        count = sum(-(-leaf.size // length) for leaf in leaves)
        deviations = jax.tree.map(_deviation, params)
        start, keys = ravel(hyperparams).astype(jnp.float32), jax.random.split(key, 4)

        def drawn(key: Key, inputs: int, outputs: int, scale: float = 1.0) -> jax.Array:
            return scale / math.sqrt(max(1, inputs)) * jax.random.normal(key, (inputs, outputs))

        phi: Any = ChunkedParams(
            embeddings=jax.random.normal(keys[0], (count, embedding)),
            hidden_kernel=drawn(keys[1], embedding, hidden),
            slope=drawn(keys[2], start.size, hidden, RESPONSE),
            hidden_bias=jnp.zeros(hidden),
            kernel=drawn(keys[3], hidden, length),
            bias=jnp.zeros(length),
            gains=None,
            shapes=tuple(leaf.shape for leaf in leaves),
            dtypes=tuple(str(leaf.dtype) for leaf in leaves),
        )
        at_start = _by_array(phi, _units(phi, jnp.zeros_like(start)))
        gains = [
            (each > 0) / jnp.sqrt(jnp.mean(units**2)) if units.size else 0.0
            for each, units in zip(jax.tree.leaves(deviations), at_start, strict=True)
        ]
        means = jax.tree.map(_mean, params)
        scales = jax.tree.map(lambda each: jnp.where(each > 0, each, 1.0), deviations)
        phi = phi.replace(gains=jax.tree.unflatten(treedef, gains))
        return StartedParams(Held(start, means, scales), phi)

    def apply(hypernet_params: StartedParams, hyperparams: Hyperparams) -> Params:
        phi = hypernet_params.response
        start, *scaling = jax.lax.stop_gradient(hypernet_params.start)
        means, scales = map(jax.tree.leaves, scaling)
        gains, treedef = jax.tree.flatten(phi.gains)
        # One product for all: of several, XLA (jaxlib 0.10.2, CPUs) makes a gradient that crashes.
        moved = ravel(hyperparams).astype(phi.slope.dtype) - start
        chunks = _units(phi, moved) @ phi.kernel + phi.bias[None]

        arrays = zip(
            _by_array(phi, chunks), means, scales, gains, phi.shapes, phi.dtypes, strict=True
        )
        made = [
            (mean + scale * gain * rows.ravel()[: math.prod(shape)]).reshape(shape).astype(dtype)
            for rows, mean, scale, gain, shape, dtype in arrays
        ]
        return jax.tree.unflatten(treedef, made)

    return Hypernet(init, apply)


def _units(phi: ChunkedParams, moved: jax.Array) -> jax.Array:
    """The hidden units of all chunks, shape (chunks, hidden), at λ − λ₀ of shape (n,)."""
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
