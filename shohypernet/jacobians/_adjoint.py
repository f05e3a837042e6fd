"""The adjoint of `kronecker`, tracked from round to round towards the Gauss-Newton curvature's.

    v ← v + ρ C⁻¹ (∂L_valid/∂w − H v)

ρ is at most that which minimizes the quadratic ½ vᵀHv − vᵀ ∂L_valid/∂w along the step, on the same
batches, so that no step goes further than these allow.

Dagréou et al. (2022), arXiv:2201.13409 (SOBA).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal.outputs import Outputs
from shohypernet.jacobians import _gauss_newton as gauss_newton
from shohypernet.jacobians._base import Point
from shohypernet.problem import Problem
from shohypernet.types import Params

LONGEST = 10.0  # of v, in units of C⁻¹ ∂L_valid/∂w: beyond it starts again


def tracked(
    problem: Problem,
    point: Point,
    last: Params,
    cotangent: Params,
    solve: Callable[[Params], Params],
    *,
    fresh: jax.Array,
    products: int,
    rate: float,
) -> Params:
    """The adjoint v one step nearer to H⁻¹ ∂L_valid/∂w.

    Args:
      problem: whose curvature is H.
      point: where, and the batches.
      last: v of the last round.
      cotangent: ∂L_valid/∂w.
      solve: C⁻¹.
      fresh: whether to start at C⁻¹ ∂L_valid/∂w, as it also does where v has run away from there.
      products: number of batches for H.
      rate: ρ, at most.
    """
    start = solve(cotangent)
    near = optax.tree.norm(last) < LONGEST * optax.tree.norm(start)
    adjoint = jax.tree.map(lambda old, new: jnp.where(~fresh & near, old, new), last, start)

    def over_batches(function: Callable[[gauss_newton.Curvature], Any]) -> Any:
        return _mean_over_batches(function, problem, point, products)

    bent = over_batches(lambda curvature: curvature.times(adjoint))
    residual = optax.tree.sub(cotangent, bent)
    step = solve(residual)
    form = over_batches(lambda curvature: curvature.form(step))
    slope = optax.tree.vdot(step, residual)
    size = jnp.minimum(rate, jnp.where(form > 0, slope / jnp.where(form > 0, form, 1), rate))
    return jax.tree.map(lambda v, step: (v + size * step).astype(v.dtype), adjoint, step)


def _mean_over_batches(
    function: Callable[[gauss_newton.Curvature], Any],
    problem: Problem,
    point: Point,
    products: int,
) -> Any:
    """The mean of something of the curvature over the last batches of a round."""

    def at(i: jax.Array) -> Any:
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[i], point.batches)
        outputs = Outputs(problem, point.hyperparams, batch, point.key)
        return function(gauss_newton.curvature(outputs, point.params))

    def add(total: Any, i: jax.Array) -> tuple[Any, None]:
        return optax.tree.add(total, at(i)), None

    steps = jax.tree.leaves(point.batches)[0].shape[0]
    which = steps - 1 - jnp.arange(products) % steps
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(at, which[0])
    )
    total, _ = jax.lax.scan(add, zeros, which)
    return jax.tree.map(lambda leaf: leaf / products, total)
