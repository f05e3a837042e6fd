"""A response Jacobian from the curvature of each layer: nothing to learn but averages.

    J δ = −C⁻¹ (∂²L_train/∂w∂λ) δ,    C = ⊕_layers (A ⊗ G) + ∂²R/∂w² + γ

By the implicit function theorem this is ∂w*/∂λ if C is the Hessian of the training loss. Here C is
a model of it: the Kronecker factors of each dense layer (see `factors`), running averages that are
refreshed seldom; for each other array of weights one number, its mean curvature; the exact
curvature of the penalties R; and a damping γ. A ⊗ G plus one number is inverted by eigenvectors,
and a few conjugate-gradient iterations account for penalties that differ from weight to weight.
They touch no data: one costs about as much as three products of A with the weights.

For a linear model with squared error C is exact. The memory is that of the weights, and of A and G
twice over.

Factors: Martens and Grosse (2015), arXiv:1503.05671. Centring: Bae and Grosse (2020),
arXiv:2010.13514.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from shohypernet.hypernets import factors
from shohypernet.hypernets.factors import Estimate, Factors
from shohypernet.hypernets.jacobian import Jacobian, Point
from shohypernet.problem import Problem
from shohypernet.rounds import same_for_all

FLOOR = 1e-12  # of a curvature that is divided by
TOLERANCE = 1e-6  # of a residual, where conjugate gradients stop before they are told to


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
    """

    average: Estimate
    bases: list[Basis]
    rounds: jax.Array


class _Curvature(NamedTuple):
    """Of the data alone, for one block of weights.

    Attributes:
      mean: its eigenvalues' mean.
      bend: `bend(block)`, it times a block.
      unbend: `unbend(block, level)`, the inverse of it + level times a block.
    """

    mean: jax.Array
    bend: Callable[[jax.Array], jax.Array]
    unbend: Callable[[jax.Array, jax.Array], jax.Array]


def kronecker(
    problem: Problem,
    *,
    refresh_every: int = 20,
    window: int = 10,
    iterations: int = 3,
    damping: float = 1e-3,
) -> Jacobian:
    """J = −C⁻¹ ∂²L_train/∂w∂λ with a Kronecker-factored curvature C, for any Flax model.

    Args:
      problem: what is tuned; its `init` calls Flax Linen modules.
      refresh_every: rounds from one look at the curvature to the next; the first round looks.
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
    for name, count in {
        "refresh_every": refresh_every,
        "window": window,
        "iterations": iterations,
    }.items():
        if count < 1:
            raise ValueError(f"kronecker() needs {name} to be 1 or more, got {count}.")
    if not 0 <= damping < math.inf:
        raise ValueError(f"kronecker() needs a finite damping >= 0, got {damping}.")
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
        return State(average, bases, jnp.zeros((), jnp.int32))

    def learn(
        key: jax.Array, state: State, params: Any, hyperparams: Any, train_batches: Any
    ) -> tuple[State, jax.Array]:
        batches = jax.tree.leaves(train_batches)[0].shape[0]

        def look(average: Estimate, bases: list[Basis]) -> tuple[Estimate, list[Basis]]:
            del bases
            seen = factors.estimate(problem, layers, params, hyperparams, train_batches, key)
            share = 1 / jnp.minimum(state.rounds // refresh_every + 1, window)
            average = jax.tree.map(lambda old, new: old + share * (new - old), average, seen)
            return average, [_basis(layer) for layer in average.layers]

        due = same_for_all(state.rounds) % refresh_every == 0
        average, bases = jax.lax.cond(due, look, lambda *old: old, state.average, state.bases)
        return State(average, bases, state.rounds + 1), jnp.where(
            due, factors.evaluations(layers, params, batches), 0
        )

    def solve(state: State, point: Point, right: Any) -> Any:
        """C⁻¹ times a tree like the weights."""
        params, hyperparams, batch, key = point

        def stiffness(blocks: list[jax.Array]) -> list[jax.Array]:
            """∂²R/∂w² times blocks."""
            slope = jax.grad(lambda params: penalties(params, hyperparams, batch, key))
            tangent = factors.join(layers, blocks, params)
            return factors.split(layers, jax.jvp(slope, (params,), (tangent,))[1])

        blocks = factors.split(layers, right)
        # Times ones it is the diagonal, for penalties that are sums over weights.
        diagonal = stiffness([jnp.ones_like(block) for block in blocks])
        levels = [jnp.maximum(jnp.mean(block), 0) for block in diagonal]
        curvatures = [
            *map(_dense_curvature, state.average.layers, state.bases),
            *map(_flat_curvature, state.average.others, levels[len(layers) :]),
        ]
        dampings = [damping * curvature.mean + FLOOR for curvature in curvatures]

        def product(blocks: list[jax.Array]) -> list[jax.Array]:
            parts = zip(curvatures, stiffness(blocks), dampings, blocks, strict=True)
            return [c.bend(block) + stiff + gamma * block for c, stiff, gamma, block in parts]

        def precondition(blocks: list[jax.Array]) -> list[jax.Array]:
            """The inverse, where the penalties have one level for each block."""
            parts = zip(curvatures, levels, dampings, blocks, strict=True)
            return [c.unbend(block, level + gamma) for c, level, gamma, block in parts]

        solved, _ = cg(product, blocks, maxiter=iterations, M=precondition, tol=TOLERANCE)
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

    return Jacobian(init, learn, jvp, vjp, vjp_evaluations=1)


def _basis(layer: Factors) -> Basis:
    # A is positive semidefinite but for rounding, G but for few examples and concave losses.
    (inputs, inputs_vectors), (outputs, outputs_vectors) = map(jnp.linalg.eigh, layer)
    return Basis(jnp.maximum(inputs, 0), inputs_vectors, jnp.maximum(outputs, 0), outputs_vectors)


def _dense_curvature(layer: Factors, basis: Basis) -> _Curvature:
    a, u, g, q = basis

    def bend(block: jax.Array) -> jax.Array:
        return layer.inputs @ (block @ q * g[None] @ q.T)

    def unbend(block: jax.Array, level: jax.Array) -> jax.Array:
        return u @ (u.T @ block @ q / (jnp.outer(a, g) + level)) @ q.T

    return _Curvature(jnp.mean(a) * jnp.mean(g), bend, unbend)


def _flat_curvature(with_penalties: jax.Array, level: jax.Array) -> _Curvature:
    mean = jnp.maximum(with_penalties - level, 0)
    return _Curvature(mean, lambda block: mean * block, lambda block, level: block / (mean + level))
