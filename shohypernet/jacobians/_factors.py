"""Kronecker factors of the curvature of each layer in a Flax model, whatever its loss.

For a layer s = W a the Gauss-Newton curvature in W is nearly A ⊗ G,

    A = E[a aᵀ],    G = Σ E[g gᵀ],    g = (∂z/∂s)ᵀ c,    E[c cᵀ] = Λ = ∂²L/∂z²

with z the outputs of the model; exactly so where a and g are independent, as in a linear model with
squared error. Both are read off one pass back from random c (see `_gauss_newton`), through an
identity behind each layer whose backward rule gives a aᵀ and g gᵀ. Signs of c differ from example
to example, so that nothing cancels over them, batch statistics and attention included. A row whose
g is zero, such as a masked time step, doesn't count in A.

Where a layer is applied several times for an example (calls, time steps, positions), the gradients
of these add up before they are squared, which A ⊗ G leaves out. A scale restores the trace:
E‖∂(cᵀz)/∂W‖², from the same pass.

Martens and Grosse (2015), arXiv:1503.05671; the sampled curvature, and convolutions: Grosse and
Martens (2016), arXiv:1602.01407; shared weights: Eschenhagen et al. (2023), arXiv:2311.00636.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shohypernet._internal.layers import Layer, rest, split, watched
from shohypernet._internal.outputs import Outputs
from shohypernet.jacobians import _gauss_newton as gauss_newton
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params

MOST_ROWS = 20_000  # of a call, that A is read off: convolutions have one for each output's place


class Factors(NamedTuple):
    """Statistics of one layer.

    Attributes:
      inputs: A, shape (inputs, inputs); its diagonal, shape (inputs,), for a table.
      outputs: G, shape (outputs, outputs).
      trace: that of the layer's curvature, E‖∂(cᵀz)/∂W‖².
      applied: rows with a gradient, per example.
    """

    inputs: jax.Array
    outputs: jax.Array
    trace: jax.Array
    applied: jax.Array


class CurvatureEstimate(NamedTuple):
    """Curvature of the training loss without its penalties, as batches estimate it.

    Attributes:
      layers: the factors of each layer.
      others: the diagonal for each other array of weights.
    """

    layers: list[Factors]
    others: list[jax.Array]


class _Sums(NamedTuple):
    """Over the rows of one layer in a batch: a aᵀ, rows that count in it, all rows, and g gᵀ."""

    inputs: jax.Array
    used: jax.Array
    rows: jax.Array
    outputs: jax.Array


def estimate(
    problem: Problem,
    layers: tuple[Layer, ...],
    params: Params,
    hyperparams: Hyperparams,
    batches: Batch,
    key: Key,
) -> CurvatureEstimate:
    """The curvature, a pass forward and back for each batch.

    Args:
      problem: a stateless problem.
      layers: from `layers_of`.
      params: the weights.
      hyperparams: λ, as the losses of `problem` read it.
      batches: training batches, with a leading axis.
      key: PRNG key of random signs and of the stochastic terms of the loss.
    """
    count = jax.tree.leaves(batches)[0].shape[0]

    def one(batch: Batch, number: jax.Array, key: Key) -> tuple[CurvatureEstimate, list[jax.Array]]:
        return _of_batch(problem, layers, params, hyperparams, batch, number, key)

    def body(total: Any, at: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, one(*at)), None

    each = batches, jnp.arange(count), jax.random.split(key, count)
    first = jax.tree.map(lambda leaf: leaf[0], each)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, *first)
    )
    (total, weights), _ = jax.lax.scan(body, zeros, each)
    mean = jax.tree.map(lambda leaf: leaf / count, total)
    scaled = [
        factors._replace(inputs=total.inputs / jnp.maximum(weight, 1))
        for factors, total, weight in zip(mean.layers, total.layers, weights, strict=True)
    ]
    return CurvatureEstimate(scaled, mean.others)


def _of_batch(
    problem: Problem,
    layers: tuple[Layer, ...],
    params: Params,
    hyperparams: Hyperparams,
    batch: Batch,
    number: jax.Array,
    key: Key,
) -> tuple[CurvatureEstimate, list[jax.Array]]:
    """An estimate with a sum in place of the mean of a aᵀ, and the weights of these sums."""
    key_loss, key_signs = jax.random.split(key)
    outputs = Outputs(problem, hyperparams, batch, key_loss)

    def observed(params: Params, sums: list[_Sums]) -> list[jax.Array]:
        def observe(i: int, module: Any, inputs: jax.Array, made: jax.Array) -> jax.Array:
            rows = layers[i].type.rows(module, inputs)
            return _observed(layers[i], rows, made, sums[i])

        return outputs.at(params, watched(layers, observe))

    made, pull = jax.vjp(observed, params, [_no_sums(layer) for layer in layers])
    drawn = gauss_newton.cotangents(outputs, params, made, number, key_signs)
    gradient, sums = pull(drawn)
    blocks = split(layers, gradient)
    examples = jax.tree.leaves(batch)[0].shape[0]
    found = [
        Factors(total.inputs, total.outputs, _squares(block).sum(), total.rows / examples)
        for total, block in zip(sums, blocks, strict=False)
    ]
    others = [_squares(block) for block in blocks[len(layers) :]]
    return CurvatureEstimate(found, others), [total.used for total in sums]


def scale(factors: Factors) -> jax.Array:
    """What A ⊗ G is to be multiplied by."""
    across = jnp.sum(factors.inputs) if factors.inputs.ndim == 1 else jnp.trace(factors.inputs)
    product = across * jnp.trace(factors.outputs)
    shared = (factors.applied > 1) & (product > 0)
    return jnp.where(shared, factors.trace / jnp.where(shared, product, 1), 1)


def none_like(layers: tuple[Layer, ...], params: Params) -> CurvatureEstimate:
    """An estimate of ones in place of curvatures, in buffers of their own."""

    def ones(layer: Layer) -> Factors:
        inputs = (
            jnp.ones(layer.inputs, layer.dtype) if layer.type.table else _eye(layer.inputs, layer)
        )
        return Factors(inputs, _eye(layer.outputs, layer), *jnp.ones((2, 1), layer.dtype))

    leaves = jax.tree.leaves(params)
    others = [jnp.ones(leaves[i].shape, _at_least_single(leaves[i])) for i in rest(layers, params)]
    return CurvatureEstimate([ones(layer) for layer in layers], others)


def _eye(size: int, layer: Layer) -> jax.Array:
    return jnp.eye(size, dtype=layer.dtype)


def _squares(block: jax.Array) -> jax.Array:
    return jnp.square(block.astype(_at_least_single(block)))


def _at_least_single(leaf: Any) -> Any:
    return jnp.promote_types(leaf.dtype, jnp.float32)


# --- observing a layer --------------------------------------------------------------------------


def _no_sums(layer: Layer) -> _Sums:
    shape = (layer.inputs,) if layer.type.table else (layer.inputs, layer.inputs)
    inputs, used, rows = (jnp.zeros(s, layer.dtype) for s in (shape, (), ()))
    return _Sums(inputs, used, rows, jnp.zeros((layer.outputs, layer.outputs), layer.dtype))


def _observed(layer: Layer, rows: jax.Array, made: jax.Array, sums: _Sums) -> jax.Array:
    if layer.bias is not None:
        rows = jnp.concatenate([rows, jnp.ones((*rows.shape[:-1], 1), rows.dtype)], axis=-1)
    return _observe(made, jax.lax.stop_gradient(rows), sums)


@jax.custom_vjp
def _observe(made: jax.Array, rows: jax.Array, sums: _Sums) -> jax.Array:
    """A layer's outputs as they are; the gradient in `sums` is what they stand for."""
    del rows, sums
    return made


def _observe_forward(made: jax.Array, rows: jax.Array, sums: _Sums) -> tuple[jax.Array, Any]:
    return made, (rows, sums)


def _observe_backward(kept: Any, cotangent: jax.Array) -> tuple[jax.Array, None, _Sums]:
    rows, like = kept
    dtype, outputs = like.outputs.dtype, like.outputs.shape[0]
    g = cotangent.reshape(-1, outputs).astype(dtype)
    active = jnp.any(g != 0, axis=1).astype(dtype)
    step = -(-len(g) // MOST_ROWS) | 1  # odd, so as not to fall in step with rows of an image
    used = active[::step]
    if like.inputs.ndim == 1:
        inputs = jnp.zeros_like(like.inputs).at[rows.reshape(-1)[::step]].add(used)
    else:
        a = rows.reshape(-1, rows.shape[-1])[::step].astype(dtype)
        # Selected rather than multiplied: what is masked may be infinite.
        a = jnp.where(used[:, None] > 0, a, 0)
        inputs = a.T @ a
    return cotangent, None, _Sums(inputs, used.sum(), active.sum(), g.T @ g)


_observe.defvjp(_observe_forward, _observe_backward)
