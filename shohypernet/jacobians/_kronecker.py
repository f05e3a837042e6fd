"""A response Jacobian from the curvature of each layer: nothing to learn but averages.

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

from shohypernet._internal import validation
from shohypernet._internal.batching import same_for_all
from shohypernet.jacobians import _factors as factors
from shohypernet.jacobians._base import Point, ResponseJacobian
from shohypernet.jacobians._factors import Estimate, Factors
from shohypernet.linear_solvers import conjugate_gradient
from shohypernet.problem import Problem

FLOOR = 1e-12  # of a curvature that is divided by


class Basis(NamedTuple):
    """The eigenvalues of one layer's A and G, and their eigenvectors in columns."""

    inputs: jax.Array
    inputs_vectors: jax.Array
    outputs: jax.Array
    outputs_vectors: jax.Array


class State(NamedTuple):
    """What is known of the curvature.

    Attributes:
      average: the running average of what batches told.
      bases: the eigenvectors of each dense layer's factors.
      rounds: rounds done, scalar int32.
      looks: looks taken, scalar int32.
    """

    average: Estimate
    bases: list[Basis]
    rounds: jax.Array
    looks: jax.Array


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
    problem: Problem,
    *,
    refresh_every: int = 50,
    examples: int = 1_000,
    window: int = 10,
    iterations: int = 3,
    damping: float = 1e-3,
) -> ResponseJacobian:
    """J = −C⁻¹ ∂²L_train/∂w∂λ with a Kronecker-factored curvature C, for any Flax model.

    Args:
      problem: what is tuned; its `init` calls Flax Linen modules.
      refresh_every: rounds from one look at the curvature to the next. Before the first so many
        rounds are over it looks in rounds 0, 1, 2, 4, 8 and so on, as weights change fast.
      examples: that a look takes to A, in whole batches, if the round has so many.
      window: looks that the running average goes back over, all alike until there are so many.
      iterations: of conjugate gradients with C, at most. One is enough where each array of weights
        has one decay; where each weight has its own, three are better.
      damping: γ of each array of weights, as a share of its mean curvature.

    Returns:
      A Jacobian. A look counts as `factors.evaluations` says, and a vjp as one gradient evaluation;
      products with the penalties' curvature, which touch no data, aren't counted.

    Raises:
      ValueError: for a count below 1, a negative damping, or a problem that calls no Flax module.
    """
    validation.whole(
        "kronecker",
        refresh_every=refresh_every,
        examples=examples,
        window=window,
        iterations=iterations,
    )
    validation.not_negative("kronecker", damping=damping)
    layers = factors.dense_layers(problem)
    penalties = factors.without_data(problem.train_loss)

    def init(key: jax.Array, params: Any, hyperparams: Any) -> State:
        del key, hyperparams
        sides = [(layer.inputs, layer.outputs) for layer in layers]
        average = Estimate(
            [Factors(jnp.eye(m), jnp.eye(n)) for m, n in sides],
            [jnp.ones(()) for _ in factors.rest(layers, params)],
        )
        bases = [Basis(jnp.ones(m), jnp.eye(m), jnp.ones(n), jnp.eye(n)) for m, n in sides]
        return State(average, bases, rounds=jnp.int32(0), looks=jnp.int32(0))

    def learn(
        key: jax.Array, state: State, params: Any, hyperparams: Any, train_batches: Any
    ) -> tuple[State, jax.Array]:
        batches, size = jax.tree.leaves(train_batches)[0].shape[:2]
        seen = min(batches, math.ceil(examples / size))
        last_batches = jax.tree.map(lambda leaf: leaf[-seen:], train_batches)

        def look(state: State) -> State:
            told = factors.estimate(problem, layers, params, hyperparams, last_batches, key)
            share = 1 / jnp.minimum(state.looks + 1, window)
            average = jax.tree.map(lambda old, new: old + share * (new - old), state.average, told)
            bases = [_basis(layer) for layer in average.layers]
            return State(average, bases, state.rounds, state.looks + 1)

        n = same_for_all(state.rounds)
        due = (n % refresh_every == 0) | ((n < refresh_every) & (n & (n - 1) == 0))
        state = jax.lax.cond(due, look, lambda state: state, state)
        evaluations = jnp.where(due, factors.evaluations(layers, params, seen), 0)
        return state._replace(rounds=state.rounds + 1), evaluations

    def solve(state: State, point: Point, right: Any) -> Any:
        """C⁻¹ times a tree like the weights."""
        params, hyperparams, batch, key = point

        def stiffness(blocks: list[jax.Array]) -> list[jax.Array]:
            """∂²R/∂w² times blocks."""
            slope = jax.grad(lambda params: penalties(params, hyperparams, batch, key))
            tangent = factors.join(layers, blocks, params)
            return factors.split(layers, jax.jvp(slope, (params,), (tangent,))[1])

        targets = factors.split(layers, right)
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
        return factors.join(layers, solved, params)

    def slope(point: Point) -> Callable[[Any], Any]:
        """∂L_train/∂w at w₀ as a function of λ."""
        params, _, batch, key = point
        return lambda hyperparams: jax.grad(problem.train_loss)(params, hyperparams, batch, key)

    def jvp(state: State, point: Point, direction: Any) -> Any:
        _, mixed = jax.jvp(slope(point), (point.hyperparams,), (direction,))
        return optax.tree.scale(-1, solve(state, point, mixed))

    def vjp(state: State, point: Point, cotangent: Any) -> Any:
        adjoint = solve(state, point, cotangent)
        _, pull = jax.vjp(slope(point), point.hyperparams)
        return optax.tree.scale(-1, pull(adjoint)[0])

    return ResponseJacobian(init, learn, jvp, vjp, vjp_evaluations=1)


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
