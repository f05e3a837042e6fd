"""Products with the curvature of the training loss, without the matrix."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from shohypernet._internal.outputs import Outputs
from shohypernet.jacobians import _gauss_newton
from shohypernet.linear_solvers import Product
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params

Curvature = Callable[[Any, Any, Any, jax.Array], Product]  # of params, λ, a batch and a key


def hessian(problem: Problem) -> Curvature:
    """C = ∂²L_train/∂w². A product costs two gradient evaluations."""

    def at(params: Params, hyperparams: Hyperparams, batch: Batch, key: Key) -> Product:
        def gradient(params: Params) -> Any:
            return jax.grad(problem.train_loss)(params, hyperparams, batch, key)

        # Linearized once, so that a product repeats none of the work at the weights.
        return jax.linearize(gradient, params)[1]

    return at


def gauss_newton(
    outputs: Callable[[Any, Any, jax.Array], Any],
    loss: Callable[[Any, Any], jax.Array],
    penalty: Callable[[Any, Any], jax.Array],
) -> Curvature:
    """C = Jᵀ (∂²ℓ/∂z²) J + ∂²R/∂w² for L_train(w, λ) = ℓ(z(w), x) + R(w, λ), J = ∂z/∂w.

    Where ℓ and R are convex it is positive semidefinite, as the Hessian of a deep network is not,
    and conjugate gradients can rely on it. A product costs two gradient evaluations.

    Args:
      outputs: `outputs(params, batch, key) -> z`, the model.
      loss: `loss(z, batch) -> scalar`, convex in z.
      penalty: `penalty(params, hyperparams) -> scalar`, with λ unconstrained.

    Reference:
      Schraudolph (2002), "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent".
    """

    def at(params: Params, hyperparams: Hyperparams, batch: Batch, key: Key) -> Product:
        made, push = jax.linearize(lambda params: outputs(params, batch, key), params)
        pull = jax.linear_transpose(push, params)
        bend = jax.linearize(jax.grad(lambda made: loss(made, batch)), made)[1]
        stiffen = jax.linearize(jax.grad(lambda params: penalty(params, hyperparams)), params)[1]

        def product(vector: Any) -> Any:
            (bent,) = pull(bend(push(vector)))
            return optax.tree.add(bent, stiffen(vector))

        return product

    return at


def gauss_newton_of(problem: Problem) -> Curvature:
    """The Gauss-Newton curvature of a loss that calls a Flax model, read off it as it stands.

    C is that of `gauss_newton`: z are the outputs of the model wherever the loss calls it, and R is
    what reaches the loss by another way. A product costs two gradient evaluations.

    Args:
      problem: gives the training loss, convex in z; without model state (see `problem.with_state`).

    Returns:
      A curvature that raises a ValueError where the loss calls no Flax module.
    """

    def at(params: Params, hyperparams: Hyperparams, batch: Batch, key: Key) -> Product:
        outputs = Outputs(problem, hyperparams, batch, key)
        return _gauss_newton.curvature(outputs, params).times

    return at


def damped(product: Product, damping: float) -> Product:
    """C + δI."""
    return lambda vector: optax.tree.add_scale(product(vector), damping, vector)


def slope(
    problem: Problem, batch: Batch, key: Key, vector: Params
) -> Callable[[Any, Any], jax.Array]:
    """⟨∂L_train/∂w, v⟩ as a function of w and λ: its gradients are Hessian and mixed products."""

    def along(params: Params, hyperparams: Hyperparams) -> jax.Array:
        def loss(params: Params) -> jax.Array:
            return problem.train_loss(params, hyperparams, batch, key)

        return jax.jvp(loss, (params,), (vector,))[1]

    return along


def cross_product(
    problem: Problem, params: Params, hyperparams: Hyperparams, batch: Batch, key: Key, vector: Any
) -> Any:
    """(∂²L_train/∂λ∂w) v, shaped like λ."""
    return jax.grad(slope(problem, batch, key, vector), 1)(params, hyperparams)
