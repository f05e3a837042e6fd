"""A response Jacobian from the curvature of each layer: running averages, and no training.

    J δ = −C⁻¹ (∂²L_train/∂w∂λ) δ,    C = ⊕_layers (A ⊗ G) + ∂²R/∂w² + γ

By the implicit function theorem this is ∂w*/∂λ if C is the Hessian of the training loss. Here C is
a model of it: the Kronecker factors of each dense layer (see `factors`), running averages that are
refreshed seldom; for each other array of weights one number, its mean curvature; the exact
curvature of the penalties R; and a damping γ. In the eigenvectors of A and G, A ⊗ G plus one number
is a diagonal; conjugate-gradient iterations that start from it account for penalties that differ
from weight to weight. They touch no data: one costs two products of the eigenvectors of A with the
weights.

For a linear model with squared error C is exact. The memory is that of the weights, and of A and G
twice over.

Factors: Martens and Grosse (2015), arXiv:1503.05671. Centering: Bae and Grosse (2020),
arXiv:2010.13514.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import frozen, validation
from shohypernet._internal.batching import same_for_all
from shohypernet.jacobians import _factors as factors
from shohypernet.jacobians._base import Point, ResponseJacobian
from shohypernet.jacobians._factors import CurvatureEstimate, Factors, Layer
from shohypernet.linear_solvers import conjugate_gradient
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params

FLOOR = 1e-12  # of a curvature that is divided by


class Basis(NamedTuple):
    """The eigenvalues of one layer's A and G, and their eigenvectors in columns."""

    inputs: jax.Array
    inputs_vectors: jax.Array
    outputs: jax.Array
    outputs_vectors: jax.Array


class KroneckerState(NamedTuple):
    """State of `kronecker`: running averages of the curvature.

    Attributes:
      average: running average of the estimates.
      bases: eigenvectors of each dense layer's factors.
      rounds: rounds done, scalar int32.
      refreshes: estimates taken, scalar int32.
    """

    average: CurvatureEstimate
    bases: list[Basis]
    rounds: jax.Array
    refreshes: jax.Array


class _Block(NamedTuple):
    """The data's curvature of one block of weights, in a basis where it is diagonal.

    Attributes:
      curvature: its eigenvalues, of the turned block's shape or one for all.
      turn: from the block to that basis.
      turn_back: from the basis to the block, the transpose of `turn`.
    """

    curvature: jax.Array
    turn: Callable[[jax.Array], jax.Array]
    turn_back: Callable[[jax.Array], jax.Array]


def kronecker(
    *,
    refresh_every: int = 50,
    examples: int = 1_000,
    window: int = 10,
    iterations: int = 3,
    damping: float = 1e-3,
) -> ResponseJacobian:
    """J = −C⁻¹ ∂²L_train/∂w∂λ with a Kronecker-factored curvature C, for any Flax model.

    Args:
      refresh_every: number of rounds between updates of the Kronecker factors. Before as many
        rounds are over, they are updated in rounds 0, 1, 2, 4, 8 and so on, as weights change fast.
      examples: number of examples for the factors A, in whole batches, if the round has so many.
      window: number of updates in the running average, all alike until there are so many.
      iterations: of conjugate gradients with C, at most. One is enough where each array of weights
        has one decay; where each weight has its own, three are better.
      damping: γ of each array of weights, as a share of its mean curvature.

    Returns:
      A ResponseJacobian. An update of the factors counts as `_factors.evaluations` says, and a vjp
      as one gradient evaluation; products with the penalties' curvature, which touch no data,
      aren't counted. Its functions raise a ValueError for a problem that calls no Flax module.

    Raises:
      ValueError: for a count below 1, or a negative damping.
    """
    validation.whole(
        "kronecker",
        refresh_every=refresh_every,
        examples=examples,
        window=window,
        iterations=iterations,
    )
    validation.not_negative("kronecker", damping=damping)

    def due(rounds: Any) -> Any:
        early = (rounds < refresh_every) & (rounds & (rounds - 1) == 0)
        return (rounds % refresh_every == 0) | early

    def used_batches(inner_steps: int, batch_size: int) -> int:
        return min(inner_steps, math.ceil(examples / batch_size))

    def update_evaluations(
        problem: Problem, params: Params, rounds: Any, inner_steps: int, batch_size: int
    ) -> Any:
        layers = factors.dense_layers(problem, params)
        each = factors.evaluations(layers, params, used_batches(inner_steps, batch_size))
        return jnp.where(due(rounds), each, 0)

    def update(
        problem: Problem,
        key: Key,
        state: KroneckerState,
        params: Params,
        hyperparams: Hyperparams,
        train_batches: Batch,
    ) -> tuple[KroneckerState, jax.Array]:
        layers = factors.dense_layers(problem, params)
        sizes = jax.tree.leaves(train_batches)[0].shape[:2]
        used = used_batches(*sizes)
        last_batches = jax.tree.map(lambda leaf: leaf[-used:], train_batches)

        def refresh(state: KroneckerState) -> KroneckerState:
            new = factors.estimate(problem, layers, params, hyperparams, last_batches, key)
            share = 1 / jnp.minimum(state.refreshes + 1, window)
            average = jax.tree.map(
                lambda old, new: (old + share * (new - old)).astype(old.dtype), state.average, new
            )
            bases = [_basis(layer) for layer in average.layers]
            return KroneckerState(average, bases, state.rounds, state.refreshes + 1)

        rounds = same_for_all(state.rounds)
        taken = update_evaluations(problem, params, rounds, *sizes)
        state = jax.lax.cond(due(rounds), refresh, lambda state: state, state)
        return state._replace(rounds=state.rounds + 1), taken

    def jvp(
        problem: Problem, state: KroneckerState, point: Point, direction: Hyperparams
    ) -> Params:
        _, mixed = jax.jvp(_slope(problem, point), (point.hyperparams,), (direction,))
        solved = _solve(problem, state, point, mixed, iterations, damping)
        return optax.tree.scale(-1, solved)

    def vjp(
        problem: Problem, state: KroneckerState, point: Point, cotangent: Params
    ) -> Hyperparams:
        adjoint = _solve(problem, state, point, cotangent, iterations, damping)
        _, pull = jax.vjp(_slope(problem, point), point.hyperparams)
        return optax.tree.scale(-1, pull(adjoint)[0])

    return ResponseJacobian(_init, update, jvp, vjp, update_evaluations, vjp_evaluations=1)


def _init(problem: Problem, key: Key, params: Params, hyperparams: Hyperparams) -> KroneckerState:
    del key, hyperparams
    layers = factors.dense_layers(problem, params)
    leaves = jax.tree.leaves(params)
    average = CurvatureEstimate(
        [Factors(*(jnp.eye(n, dtype=a.dtype) for n in (a.inputs, a.outputs))) for a in layers],
        [jnp.ones((), _at_least_single(leaves[i])) for i in factors.rest(layers, params)],
    )
    # Arrays of their own, for the buffers of a state may be donated.
    bases = [Basis(*_identity(a.inputs, a.dtype), *_identity(a.outputs, a.dtype)) for a in layers]
    return KroneckerState(average, bases, rounds=jnp.int32(0), refreshes=jnp.int32(0))


def _identity(size: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    return jnp.ones(size, dtype), jnp.eye(size, dtype=dtype)


def _solve(
    problem: Problem,
    state: KroneckerState,
    point: Point,
    right: Params,
    iterations: int,
    damping: float,
) -> Params:
    """C⁻¹ times a tree like the weights."""
    layers = factors.dense_layers(problem, point.params)
    _require_whole_layers(problem, layers, point)
    stiffness = _penalty_curvature(problem, layers, point)
    targets = _working(factors.split(layers, right))
    # Times ones it is the diagonal, for penalties that are sums over weights.
    diagonal = stiffness([jnp.ones_like(target) for target in targets])
    levels = [jnp.maximum(jnp.mean(block), 0) for block in diagonal]
    blocks = [
        *map(_dense_block, state.bases),
        *map(_flat_block, state.average.others, levels[len(layers) :]),
    ]
    bent = [b.curvature + damping * jnp.mean(b.curvature) + FLOOR for b in blocks]
    # With unit steps y = √(bent + level) x the matrix is nearly the identity.
    units = [jax.lax.rsqrt(c + level) for c, level in zip(bent, levels, strict=True)]

    def product(steps: list[jax.Array]) -> list[jax.Array]:
        turned = [unit * step for unit, step in zip(units, steps, strict=True)]
        back = [b.turn_back(x) for b, x in zip(blocks, turned, strict=True)]
        stiff = [b.turn(x) for b, x in zip(blocks, stiffness(back), strict=True)]
        parts = zip(units, bent, turned, stiff, strict=True)
        return [unit * (c * x + r) for unit, c, x, r in parts]

    scaled = [u * b.turn(t) for u, b, t in zip(units, blocks, targets, strict=True)]
    steps = conjugate_gradient(iterations)(product, scaled).value
    solved = [b.turn_back(u * y) for u, b, y in zip(units, blocks, steps, strict=True)]
    return factors.join(layers, solved, point.params)


def _require_whole_layers(problem: Problem, layers: tuple[Layer, ...], point: Point) -> None:
    """Refuse a layer of which a `stop_gradient` holds a part: its factors would mix the two."""
    moved = jax.tree.leaves(frozen.moved_by_loss(problem, *point))
    for layer in layers:
        if layer.bias is not None and moved[layer.kernel] != moved[layer.bias]:
            still, moves = ("bias", "kernel") if moved[layer.kernel] else ("kernel", "bias")
            raise ValueError(
                f"the training loss moves the {moves} of layer {'/'.join(layer.path)} but not its "
                f"{still}, which kronecker() can't tell apart; freeze the {still} by the optimizer "
                "instead (optax.multi_transform with optax.set_to_zero)."
            )


def _slope(problem: Problem, point: Point) -> Callable[[Hyperparams], Params]:
    """∂L_train/∂w at w₀ as a function of λ."""
    params, _, batch, key = point
    return lambda hyperparams: jax.grad(problem.train_loss)(params, hyperparams, batch, key)


def _penalty_curvature(
    problem: Problem, layers: tuple[Layer, ...], point: Point
) -> Callable[[list[jax.Array]], list[jax.Array]]:
    """Products of ∂²R/∂w² with blocks."""
    params, hyperparams, batch, key = point
    penalties = factors.without_data(problem.train_loss)

    def slope(params: Params) -> Params:
        return jax.grad(penalties)(params, hyperparams, batch, key)

    def product(blocks: list[jax.Array]) -> list[jax.Array]:
        tangent = factors.join(layers, blocks, params)
        return _working(factors.split(layers, jax.jvp(slope, (params,), (tangent,))[1]))

    return product


def _at_least_single(leaf: Any) -> Any:
    return jnp.promote_types(leaf.dtype, jnp.float32)


def _working(blocks: list[jax.Array]) -> list[jax.Array]:
    return [block.astype(_at_least_single(block)) for block in blocks]


def _basis(layer: Factors) -> Basis:
    # A is positive semidefinite but for rounding, G but for few examples and concave losses.
    (inputs, inputs_vectors), (outputs, outputs_vectors) = map(_eigh, layer)
    return Basis(jnp.maximum(inputs, 0), inputs_vectors, jnp.maximum(outputs, 0), outputs_vectors)


@jax.custom_batching.sequential_vmap
def _eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    # One matrix at a time. On a CPU each batched call waits for helpers from the pool of threads
    # that it runs in itself, and with as many such calls at once as threads there are none: seen
    # with jax 0.10.2, two layers, three seeds and two cores.
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


def _dense_block(basis: Basis) -> _Block:
    # Turned, a block lies on its side: XLA on a CPU takes half the time for few rows as for few
    # columns.
    a, u, g, q = basis
    return _Block(
        jnp.outer(g, a), lambda block: q.T @ (block.T @ u), lambda turned: (q @ (turned @ u.T)).T
    )


def _flat_block(with_penalties: jax.Array, level: jax.Array) -> _Block:
    return _Block(jnp.maximum(with_penalties - level, 0), lambda block: block, lambda block: block)
