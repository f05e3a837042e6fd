"""Implicit differentiation: the hypergradient at a minimum of the training loss.

    dL_valid/dλ = ∂L_valid/∂λ − (∂²L_train/∂λ∂w) C⁻¹ ∂L_valid/∂w,    C ≈ ∂²L_train/∂w² + δI

It follows from ∂L_train/∂w (w*(λ), λ) = 0 by the implicit function theorem, so how the minimum was
found doesn't matter, and the inner optimizer's settings can't be tuned. The methods differ in how
they solve with C (see `linear_solvers`):

    conjugate gradients   Foo et al. (2008); Rajeswaran et al. (2019), arXiv:1909.04630
    Neumann series        Lorraine et al. (2019), arXiv:1911.02590, Algorithms 1 to 3
    identity, T1 − T2     Luketina et al. (2016), arXiv:1511.06727
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.hypergradients import _inner as inners
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import curvature as curvatures
from shohypernet.hypergradients._inner import Estimate, Inner
from shohypernet.hypergradients.curvature import Curvature
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.linear_solvers import Solver
from shohypernet.problem import Problem


class Implicit(NamedTuple):
    """A hypergradient by implicit differentiation.

    Attributes:
      gradient: the estimated dL_valid/dλ, a tree like λ.
      adjoint: the approximate C⁻¹ ∂L_valid/∂w, a tree like the weights.
      valid_loss: L_valid at the weights, scalar.
      gradient_evaluations: what it took, a number or a scalar array.
    """

    gradient: Any
    adjoint: Any
    valid_loss: jax.Array
    gradient_evaluations: Any


def hypergradient(
    problem: Problem,
    hyperparams: Any,
    params: Any,
    train_batch: Any,
    valid_batch: Any,
    key: jax.Array,
    *,
    solver: Solver,
    curvature: Curvature | None = None,
    damping: float = 0.0,
) -> Implicit:
    """dL_valid/dλ at weights that are taken for the best response.

    Args:
      problem: gives both losses.
      hyperparams: λ, unconstrained.
      params: w, near a minimum of L_train(·, λ).
      train_batch: the training examples of C and of the mixed derivative: all of them, or a
        minibatch, whose noise then is in every product.
      valid_batch: the batch of L_valid.
      key: for what is random in the training loss.
      solver: how to solve with C, from `linear_solvers`.
      curvature: C, from `curvature`; the Hessian if None.
      damping: δ, in units of the curvature.

    Returns:
      The estimate, which takes 2 + 2K gradient evaluations with K products: one for each loss, and
      two a product.
    """
    valid_loss, (through_weights, direct) = jax.value_and_grad(problem.valid_loss, (0, 1))(
        params, hyperparams, valid_batch
    )
    curvature = curvatures.hessian(problem) if curvature is None else curvature
    product = curvatures.damped(curvature(params, hyperparams, train_batch, key), damping)
    adjoint, products = solver(product, through_weights)
    through = curvatures.cross_product(problem, params, hyperparams, train_batch, key, adjoint)
    return Implicit(optax.tree.sub(direct, through), adjoint, valid_loss, 2 + 2 * products)


def implicit(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    solver: Solver,
    curvature: Curvature | None = None,
    damping: float = 0.0,
) -> HyperOptimizer:
    """Training that goes on from round to round, with an implicit hypergradient after each.

    The last training batch of the round serves the products: with minibatches the gradient is
    stochastic, as in Lorraine et al., and with whole-set batches it is not.

    Args:
      problem: what is tuned.
      optimizer: any optax optimizer of the weights.
      hyper_optimizer: for λ.
      solver: `linear_solvers.conjugate_gradient(steps)`, `neumann(terms, step_size)`, or
        `identity()` for T1 − T2.
      curvature: `curvature.gauss_newton(…)`; the Hessian if None.
      damping: δ, in units of the curvature.

    Returns:
      A HyperOptimizer whose round takes T + 2 + 2K gradient evaluations, for T inner steps and K
      products of the solver.

    Raises:
      ValueError: if optimizer is a function of λ, which this can't tune, or the damping is
        negative.
    """
    require_fixed(optimizer, "implicit")
    validation.not_negative("implicit", damping=damping)
    advance = inners.step(problem, optimizer)

    def estimate(
        hyperparams: Any, inner: Inner, train_batches: Any, valid_batch: Any, key: jax.Array
    ) -> Estimate:
        key_train, key_products = jax.random.split(key)
        end, losses = jax.lax.scan(
            lambda inner, at: advance(inner, hyperparams, *at),
            inner,
            inners.inputs(key_train, train_batches),
        )
        made = hypergradient(
            problem,
            hyperparams,
            end.params,
            jax.tree.map(lambda leaf: leaf[-1], train_batches),
            valid_batch,
            key_products,
            solver=solver,
            curvature=curvature,
            damping=damping,
        )
        evaluations = len(losses) + made.gradient_evaluations
        return Estimate(made.gradient, end, jnp.mean(losses), made.valid_loss, evaluations)

    return restarts.going_on(
        functools.partial(inners.start, problem, optimizer),
        estimate,
        hyper_optimizer,
    )


def require_fixed(optimizer: Any, method: str) -> None:
    """Refuses an inner optimizer that depends on λ."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            f"{method}() needs an optax optimizer for the weights, got {optimizer!r}. A "
            "step size or momentum that depends on λ doesn't move the minimum of the training "
            "loss, so implicit differentiation can't tune it; unrolled(), truncated(), forward() "
            "and real_time() can."
        )
