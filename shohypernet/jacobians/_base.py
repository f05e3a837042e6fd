"""What a centered hypernet has inside: a model of how the best response moves with λ.

    w_φ(λ) = w₀ + J_φ (λ − λ̂)

w₀ are weights trained at λ̂ and J_φ ≈ ∂w*/∂λ there. Only products with J_φ are ever needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Point(NamedTuple):
    """Where a Jacobian is taken.

    Attributes:
      params: w₀.
      hyperparams: λ̂, unconstrained.
      batch: training examples, for what in ∂w*/∂λ depends on them.
      key: for what is random in the training loss.
    """

    params: Any
    hyperparams: Any
    batch: Any
    key: jax.Array


class ResponseJacobian(NamedTuple):
    """A model of ∂w*/∂λ.

    Attributes:
      init: `init(key, params, hyperparams) -> jacobian_params` φ, from weights or their
        `jax.ShapeDtypeStruct`s.
      learn: `learn(key, jacobian_params, params, hyperparams, train_batches) -> (jacobian_params,
        gradient_evaluations)`: what a round of training at λ̂ teaches; `train_batches` leads with
        the inner-step axis.
      jvp: `jvp(jacobian_params, point, direction) -> tangent`: J δ, from a tree like λ to one like
        the weights.
      vjp: `vjp(jacobian_params, point, cotangent) -> gradient`: Jᵀ v, the other way.
      vjp_evaluations: gradient evaluations that a `vjp` takes.
    """

    init: Callable[[jax.Array, Any, Any], Any]
    learn: Callable[[jax.Array, Any, Any, Any, Any], tuple[Any, jax.Array]]
    jvp: Callable[[Any, Point, Any], Any]
    vjp: Callable[[Any, Point, Any], Any]
    vjp_evaluations: int
