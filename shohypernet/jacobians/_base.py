"""The protocol of response Jacobians: models of how the best response moves with λ.

    w_φ(λ) = w₀ + J_φ (λ − λ̂)

w₀ are weights trained at λ̂ and J_φ ≈ ∂w*/∂λ there. Only products with J_φ are ever needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from shohypernet.types import Batch, Hyperparams, Key, Params


class Point(NamedTuple):
    """Where a Jacobian is taken.

    Attributes:
      params: w₀.
      hyperparams: λ̂, unconstrained.
      batches: training batches of the round, with a leading axis, for what in ∂w*/∂λ depends on
        them.
      key: PRNG key of the stochastic terms of the training loss.
    """

    params: Params
    hyperparams: Hyperparams
    batches: Batch
    key: Key

    @property
    def last_batch(self) -> Batch:
        """The last of the batches."""
        return jax.tree.map(lambda leaf: leaf[-1], self.batches)


def _none_rejected(state: Any) -> int:
    del state
    return 0


class ResponseJacobian(NamedTuple):
    """A model of ∂w*/∂λ. Its functions get a stateless problem in unconstrained space.

    Attributes:
      init: `init(problem, key, params, hyperparams) -> state`, from weights or their
        `jax.ShapeDtypeStruct`s.
      update: `update(problem, key, state, params, hyperparams, train_batches) -> (state,
        gradient_evaluations)`, from a round of training at λ̂; `train_batches` leads with the
        inner-step axis.
      jvp: `jvp(problem, state, point, direction) -> tangent`: J δ, from a tree like λ to one like
        the weights.
      vjp: `vjp(problem, state, point, cotangent) -> (gradient, state)`: Jᵀ v, the other way. The
        state may keep what helps the next round, whose v is nearly the same.
      update_evaluations: `update_evaluations(problem, params, rounds, inner_steps, batch_size)`:
        gradient evaluations that `update` takes in each of some rounds, numbered from 0 on.
      vjp_evaluations: gradient evaluations that a `vjp` takes.
      rejected: `rejected(state)`: how many of its estimates weren't finite and were left out, for
        one state or many.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]
    jvp: Callable[..., Params]
    vjp: Callable[..., tuple[Hyperparams, Any]]
    update_evaluations: Callable[..., Any]
    vjp_evaluations: int
    rejected: Callable[[Any], Any] = _none_rejected
