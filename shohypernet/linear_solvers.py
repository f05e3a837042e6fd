"""Approximate solutions of C x = b, for a matrix known by its products with vectors.

C is the curvature of the training loss, symmetric; x and b are trees like the weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from shohypernet._internal import validation
from shohypernet.types import Key

Product = Callable[[Any], Any]  # v -> C v


class Solution(NamedTuple):
    """An approximate C⁻¹ b.

    Attributes:
      value: x.
      products: number of products with C that it took, a number or a scalar array.
      convex: whether C was positive in all directions that were tried, as far as the solver sees.
    """

    value: Any
    products: Any
    convex: Any = True


class Solver(Protocol):
    """A solver of C x = b."""

    def __call__(self, product: Product, target: Any, key: Key | None = None, /) -> Solution:
        """C⁻¹ b, approximately; solvers that draw random numbers need the key."""
        ...


def conjugate_gradient(
    steps: int, *, tolerance: float | jax.Array = 0.0, start: Any = None
) -> Solver:
    """Conjugate gradients, for a positive definite C.

    If it meets a direction in which C isn't positive, and ends further from b than it began, it
    returns the x before that direction.

    Args:
      steps: maximum number of products.
      tolerance: ‖C x − b‖₂ to stop at, in units of b. It also stops within the rounding of ‖b‖₂.
      start: initial x, which costs one more product; zero if None.

    Raises:
      ValueError: if steps is below 1, or the tolerance below 0.

    Reference:
      Hestenes and Stiefel (1952).
    """
    validation.whole("conjugate_gradient", steps=steps)
    validation.not_negative("conjugate_gradient", tolerance=tolerance)

    def solve(product: Product, target: Any, key: Key | None = None) -> Solution:
        del key
        guess = optax.tree.zeros_like(target) if start is None else start
        residual = target if start is None else optax.tree.sub(target, product(start))
        square = _vdot(residual, residual)
        # Below the rounding of b nothing is gained, and finally 0 would be divided by 0.
        rounding = jnp.finfo(square.dtype).eps ** 2 * _vdot(target, target)
        enough = jnp.maximum(jnp.square(tolerance), rounding)

        def unfinished(carry: Any) -> jax.Array:
            *_, square, step, _, _ = carry
            return (step < steps) & (square > enough)

        def improve(carry: Any) -> Any:
            value, residual, direction, square, step, convex, kept = carry
            image = product(direction)
            bend = _vdot(direction, image)
            convex = convex & (bend > 0)
            kept = optax.tree.where(convex, value, kept)
            length = square / bend
            value = optax.tree.add_scale(value, length, direction)
            residual = optax.tree.add_scale(residual, -length, image)
            smaller = _vdot(residual, residual)
            direction = optax.tree.add_scale(residual, smaller / square, direction)
            return value, residual, direction, smaller, step + 1, convex, kept

        carry = guess, residual, residual, square, jnp.int32(0), jnp.bool(True), guess
        value, _, _, last, step, convex, kept = jax.lax.while_loop(unfinished, improve, carry)
        # Where C is indefinite, or its products are rounded too coarsely, it may diverge. (Where C
        # is definite, the residual may grow on the way too, but x comes nearer all the same.)
        value = optax.tree.where(convex | (last <= square), value, kept)
        return Solution(value, step if start is None else step + 1, convex)

    return solve


def neumann(terms: int, step_size: float | jax.Array) -> Solver:
    """Neumann series: x = α Σ_{j=0…K} (I − αC)ʲ b.

    It converges if α is below 2 / λ_max(C), like gradient descent of that step size, and diverges
    above. α is independent of the inner optimizer's step size; `diagnostics.sharpness` estimates
    λ_max.

    Args:
      terms: number of products K; with 0 it is the identity times α.
      step_size: α.

    Raises:
      ValueError: if terms is negative, or the step size not above 0.

    Reference:
      Lorraine et al. (2019), arXiv:1911.02590, Algorithm 3.
    """
    validation.whole("neumann", least=0, terms=terms)
    validation.positive("neumann", step_size=step_size)

    def solve(product: Product, target: Any, key: Key | None = None) -> Solution:
        del key

        def add(_: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            term, total = carry
            term = optax.tree.add_scale(term, -step_size, product(term))
            return term, optax.tree.add(total, term)

        _, total = jax.lax.fori_loop(0, terms, add, (target, target))
        return Solution(optax.tree.scale(step_size, total), terms)

    return solve


def identity() -> Solver:
    """The identity in place of the curvature: x = b, at no cost.

    Reference:
      T1 − T2, Luketina et al. (2016), arXiv:1511.06727.
    """
    return lambda product, target, key=None: Solution(target, 0)


def nystrom(rank: int, *, damping: float | jax.Array) -> Solver:
    """Nyström: columns C_K of C instead of the matrix, and a damping ρ for all else.

        x = b / ρ − ρ⁻² C_K (M + C_Kᵀ C_K / ρ)⁻¹ C_Kᵀ b,    M = C_KK

    That is (C_K M⁻¹ C_Kᵀ + ρI)⁻¹ b, by Woodbury's identity. K is drawn by the key of each solve,
    uniformly and without replacement; with all columns x is (C + ρI)⁻¹ b. It needs no step size
    and no convergence, and one product for each column.

    Args:
      rank: number of columns in K, at most that of the weights.
      damping: ρ, in units of the curvature; in no direction is x longer than b / ρ.

    Returns:
      A solver that raises a ValueError without a key, and for a rank above the number of weights.

    Raises:
      ValueError: if the rank is below 1, or the damping not above 0.

    Reference:
      Hataya and Yamada (2023), arXiv:2302.09726.
    """
    validation.whole("nystrom", rank=rank)
    validation.positive("nystrom", damping=damping)

    def solve(product: Product, target: Any, key: Key | None = None) -> Solution:
        flat, unravel = ravel_pytree(target)
        if key is None:
            raise ValueError("nystrom() draws columns: call solver(product, b, key).")
        validation.require(
            rank <= flat.size,
            f"nystrom() needs a rank of at most the {flat.size} weights, got {rank}.",
        )
        chosen = jax.random.choice(key, flat.size, (rank,), replace=False)
        # No factorization is made in 16 bits.
        dtype = jnp.promote_types(flat.dtype, jnp.float32)

        def column(i: jax.Array) -> jax.Array:
            unit = jnp.zeros_like(flat).at[i].set(1)
            return ravel_pytree(product(unravel(unit)))[0].astype(dtype)

        rows = jax.lax.map(column, chosen)  # C_Kᵀ
        small = rows[:, chosen] + rows @ rows.T / damping
        # A weight that changes no output has a column of zeros.
        middle = jnp.linalg.pinv((small + small.T) / 2, hermitian=True)
        wide = flat.astype(dtype)
        value = wide / damping - rows.T @ (middle @ (rows @ wide)) / damping**2
        return Solution(unravel(value.astype(flat.dtype)), rank)

    return solve


def _vdot(a: Any, b: Any) -> jax.Array:
    return jnp.asarray(optax.tree.vdot(a, b))
