"""The inverse of a model of the curvature: eigenvectors of each layer's factors, and penalties.

    C = ⊕_layers (A ⊗ G) + ⊕_others D + ∂²R/∂w² + γ

In the eigenvectors of A and G, A ⊗ G plus one number is a diagonal; conjugate-gradient iterations
that start from it account for penalties that differ from weight to weight. They touch no data: one
costs two products of the eigenvectors of A with the weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shohypernet._internal import frozen
from shohypernet._internal.layers import Layer, join, split
from shohypernet._internal.outputs import Outputs
from shohypernet.jacobians import _factors as factors
from shohypernet.jacobians._base import Point
from shohypernet.jacobians._factors import CurvatureEstimate, Factors
from shohypernet.linear_solvers import conjugate_gradient
from shohypernet.problem import Problem
from shohypernet.types import Params

FLOOR = 1e-12  # of a curvature that is divided by


class Basis(NamedTuple):
    """The eigenvalues of one layer's A and G, and their eigenvectors in columns.

    The eigenvectors of a diagonal A are None.
    """

    inputs: jax.Array
    inputs_vectors: jax.Array | None
    outputs: jax.Array
    outputs_vectors: jax.Array


class _Block(NamedTuple):
    """The data's curvature of one block of weights, in a basis where it is diagonal.

    Attributes:
      curvature: its eigenvalues, of the turned block's shape.
      turn: from the block to that basis.
      turn_back: from the basis to the block, the transpose of `turn`.
    """

    curvature: jax.Array
    turn: Callable[[jax.Array], jax.Array]
    turn_back: Callable[[jax.Array], jax.Array]


def inverse(
    problem: Problem,
    layers: tuple[Layer, ...],
    bases: list[Basis],
    average: CurvatureEstimate,
    point: Point,
    damping: float,
    iterations: int,
) -> Callable[[Params], Params]:
    """Products with C⁻¹, as a function of a tree like the weights.

    Args:
      problem: a stateless problem.
      layers: its layers.
      bases: of the layers.
      average: of the curvature, for the other arrays.
      point: where the penalties' curvature is taken.
      damping: γ of each array of weights, as a share of its mean curvature.
      iterations: of conjugate gradients, at most.

    Raises:
      ValueError: for a layer of which a `stop_gradient` in the loss holds a part.
    """
    _require_whole_layers(problem, layers, point)
    stiffness = _penalty_curvature(problem, layers, point)
    blocks = [*map(_layer_block, bases), *map(_flat_block, average.others)]
    # Times ones it is the diagonal, for penalties that are sums over weights.
    ones = [jnp.ones_like(block) for block in _working(split(layers, point.params))]
    diagonal = [jnp.maximum(block, 0) for block in stiffness(ones)]
    levels = [*map(jnp.mean, diagonal[: len(layers)]), *diagonal[len(layers) :]]
    bent = [b.curvature + damping * jnp.mean(b.curvature) + FLOOR for b in blocks]
    # With unit steps y = √(bent + level) x the matrix is nearly the identity.
    units = [jax.lax.rsqrt(c + level) for c, level in zip(bent, levels, strict=True)]

    def product(steps: list[jax.Array]) -> list[jax.Array]:
        turned = [unit * step for unit, step in zip(units, steps, strict=True)]
        back = [b.turn_back(x) for b, x in zip(blocks, turned, strict=True)]
        stiff = [b.turn(x) for b, x in zip(blocks, stiffness(back), strict=True)]
        parts = zip(units, bent, turned, stiff, strict=True)
        return [unit * (c * x + r) for unit, c, x, r in parts]

    def solve(right: Params) -> Params:
        targets = _working(split(layers, right))
        scaled = [u * b.turn(t) for u, b, t in zip(units, blocks, targets, strict=True)]
        steps = conjugate_gradient(iterations)(product, scaled).value
        solved = [b.turn_back(u * y) for u, b, y in zip(units, blocks, steps, strict=True)]
        return join(layers, solved, point.params)

    return solve


def basis(layer: Factors) -> Basis:
    """The eigenvectors of a layer's factors."""
    # Positive semidefinite but for rounding.
    outputs, outputs_vectors = _eigh(layer.outputs)
    if layer.inputs.ndim == 1:
        inputs, inputs_vectors = layer.inputs, None
    else:
        inputs, inputs_vectors = _eigh(layer.inputs)
    inputs = factors.scale(layer) * jnp.maximum(inputs, 0)
    return Basis(inputs, inputs_vectors, jnp.maximum(outputs, 0), outputs_vectors)


def no_basis(layer: Layer) -> Basis:
    """That of a curvature of one, in buffers of their own: those of a state may be donated."""
    ones = [jnp.ones(size, layer.dtype) for size in (layer.inputs, layer.outputs)]
    eyes = [jnp.eye(size, dtype=layer.dtype) for size in (layer.inputs, layer.outputs)]
    return Basis(ones[0], None if layer.type.table else eyes[0], ones[1], eyes[1])


@jax.custom_batching.sequential_vmap
def _eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    # One matrix at a time. On a CPU each batched call waits for helpers from the pool of threads
    # that it runs in itself, and with as many such calls at once as threads there are none: seen
    # with jax 0.10.2, two layers, three seeds and two cores.
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


def _layer_block(basis: Basis) -> _Block:
    # Turned, a block lies on its side: XLA on a CPU takes half the time for few rows as for few
    # columns.
    a, u, g, q = basis
    curvature = jnp.outer(g, a)
    if u is None:
        return _Block(curvature, lambda block: q.T @ block.T, lambda turned: (q @ turned).T)
    return _Block(
        curvature, lambda block: q.T @ (block.T @ u), lambda turned: (q @ (turned @ u.T)).T
    )


def _flat_block(curvature: jax.Array) -> _Block:
    return _Block(curvature, lambda block: block, lambda block: block)


def _require_whole_layers(problem: Problem, layers: tuple[Layer, ...], point: Point) -> None:
    """Refuse a layer of which a `stop_gradient` holds a part: its factors would mix the two."""
    moved = jax.tree.leaves(
        frozen.moved_by_loss(problem, point.params, point.hyperparams, point.last_batch, point.key)
    )
    for layer in layers:
        if layer.bias is not None and moved[layer.kernel] != moved[layer.bias]:
            still, moves = ("bias", "kernel") if moved[layer.kernel] else ("kernel", "bias")
            raise ValueError(
                f"the training loss moves the {moves} of layer {layer.name} but not its {still}, "
                f"which kronecker() can't tell apart; freeze the {still} by the optimizer instead "
                "(optax.multi_transform with optax.set_to_zero)."
            )


def _penalty_curvature(
    problem: Problem, layers: tuple[Layer, ...], point: Point
) -> Callable[[list[jax.Array]], list[jax.Array]]:
    """Products of ∂²R/∂w² with blocks."""
    params = point.params
    outputs = Outputs(problem, point.hyperparams, point.last_batch, point.key)
    held = jax.lax.stop_gradient(outputs.at(params))

    def slope(params: Params) -> Params:
        return jax.grad(lambda params: outputs.loss(params, held))(params)

    def product(blocks: list[jax.Array]) -> list[jax.Array]:
        tangent = join(layers, blocks, params)
        return _working(split(layers, jax.jvp(slope, (params,), (tangent,))[1]))

    return product


def _working(blocks: list[Any]) -> list[jax.Array]:
    return [block.astype(jnp.promote_types(block.dtype, jnp.float32)) for block in blocks]
