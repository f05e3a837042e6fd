"""The Gauss-Newton curvature of a training loss, read off its Flax model as it stands.

    H ≈ Jᵀ Λ J + ∂²R/∂w²,    J = ∂z/∂w,    Λ = ∂²L/∂z²

z are the outputs of the model wherever the loss calls it, and R is what reaches the loss by another
way: the penalties. `Outputs` finds both, so a loss needn't be written in parts.

Schraudolph (2002), "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal.outputs import Outputs
from shohypernet.types import Key, Params

MOST_OUTPUTS = 256  # of an example, whose curvature is taken whole; of more only the diagonal
SIGNS = 8  # that estimate such a diagonal


class Curvature(NamedTuple):
    """H at some weights.

    Attributes:
      times: v ↦ H v, at two gradient evaluations.
      form: v ↦ vᵀ H v, at one.
    """

    times: Callable[[Params], Params]
    form: Callable[[Params], jax.Array]


def curvature(outputs: Outputs, params: Params) -> Curvature:
    """H at some weights, on the batch of `outputs`."""
    made, push = jax.linearize(outputs.at, params)
    bend = jax.linearize(jax.grad(lambda made: outputs.loss(params, made)), made)[1]
    stiffen = jax.linearize(jax.grad(lambda params: outputs.loss(params, made)), params)[1]

    def times(vector: Params) -> Params:
        (bent,) = jax.linear_transpose(push, params)(bend(push(vector)))
        return optax.tree.add(bent, stiffen(vector))

    def form(vector: Params) -> jax.Array:
        pushed = push(vector)
        parts = (pushed, bend(pushed)), (vector, stiffen(vector))
        return sum((_vdot(*part) for part in parts), jnp.float32(0))

    return Curvature(times, form)


def cotangents(
    outputs: Outputs, params: Params, made: list[jax.Array], number: Any, key: Key
) -> list[jax.Array]:
    """Random c with E[c cᵀ] = Λ, independent from one row of z to the next.

    Rows of z are taken to enter the loss one by one, as those of examples or time steps do. Their
    Λ = S Sᵀ, by elimination, and c = S r with E[r rᵀ] = I: r is ±√K times one vector of an
    orthonormal basis, which the rows of z take in turn, so that each K of them have r rᵀ = I in
    their mean. So c cᵀ is exactly Λ in the mean over rows where Λ is a multiple of I.

    Args:
      outputs: the model's.
      params: the weights.
      made: z.
      number: of the batch, where the turn of the vectors goes on.
      key: PRNG key of signs.
    """

    def gradient(made: list[jax.Array]) -> list[jax.Array]:
        return jax.grad(lambda made: outputs.loss(params, made))(made)

    bend = jax.linearize(gradient, made)[1]
    drawn = []
    keys = jax.random.split(key, len(made))
    for i, (leaf, key_leaf) in enumerate(zip(made, keys, strict=True)):

        def bend_leaf(tangent: jax.Array, i: int = i) -> jax.Array:
            still = [jnp.zeros_like(leaf) for leaf in made]
            still[i] = tangent.astype(made[i].dtype)
            return bend(still)[i].astype(jnp.promote_types(made[i].dtype, jnp.float32))

        if leaf.ndim and leaf.shape[-1] <= MOST_OUTPUTS:
            found = _whole(bend_leaf, leaf, number, key_leaf)
        else:
            found = _diagonal(bend_leaf, leaf, key_leaf)
        drawn.append(found.astype(leaf.dtype))
    return drawn


def _whole(
    bend: Callable[[jax.Array], jax.Array], leaf: jax.Array, number: Any, key: Key
) -> jax.Array:
    size = leaf.shape[-1]
    columns = jax.vmap(lambda unit: bend(jnp.broadcast_to(unit, leaf.shape)))(jnp.eye(size))
    matrices = jnp.moveaxis(columns, 0, -1)
    root = _root((matrices + jnp.swapaxes(matrices, -1, -2)) / 2)
    lead, rows = leaf.shape[:-1], leaf.size // size
    turn = number * rows + jnp.arange(rows).reshape(lead)
    sign = jax.random.rademacher(key, lead, root.dtype)
    basis = _cosines(size, root.dtype)
    return jnp.einsum("...jk,...k->...j", root, basis[turn % size] * sign[..., None])


def _diagonal(bend: Callable[[jax.Array], jax.Array], leaf: jax.Array, key: Key) -> jax.Array:
    dtype = jnp.promote_types(leaf.dtype, jnp.float32)
    *signs, last = jax.random.rademacher(key, (SIGNS + 1, *leaf.shape), dtype)
    diagonal = sum((sign * bend(sign) for sign in signs), jnp.zeros(leaf.shape, dtype)) / SIGNS
    return jnp.sqrt(jnp.maximum(diagonal, 0)) * last


def _cosines(size: int, dtype: Any) -> jax.Array:
    """√K times an orthonormal basis of Rᴷ in rows, that of the discrete cosine transform."""
    steps = jnp.arange(size, dtype=dtype)
    rows = jnp.sqrt(2.0).astype(dtype) * jnp.cos(jnp.pi / size * jnp.outer(steps, steps + 0.5))
    return rows.at[0].set(1)


def _root(matrices: jax.Array) -> jax.Array:
    """S with S Sᵀ = M for positive semidefinite M, by Cholesky's elimination.

    A pivot that is nearly zero, or below, is passed over: M may be singular, as that of a softmax.
    """
    size = matrices.shape[-1]
    largest = jnp.max(jnp.diagonal(matrices, axis1=-2, axis2=-1), axis=-1)
    least = 10 * size * jnp.finfo(matrices.dtype).eps * largest

    def eliminate(k: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, root = carry
        pivot = left[..., k, k]
        used = pivot > least
        scale = jnp.where(used, jax.lax.rsqrt(jnp.where(used, pivot, 1)), 0)
        column = left[..., :, k] * scale[..., None]
        left = left - column[..., :, None] * column[..., None, :]
        return left, root.at[..., :, k].set(column)

    return jax.lax.fori_loop(0, size, eliminate, (matrices, jnp.zeros_like(matrices)))[1]


def _vdot(one: Any, other: Any) -> jax.Array:
    return jnp.asarray(optax.tree.vdot(one, other))
