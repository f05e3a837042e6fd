"""SOBA: weights, adjoint and λ move together, each along one stochastic direction.

    w ← w − ρ ∂L_train/∂w
    q ← q − ρ [(∂²L_train/∂w²) q − ∂L_valid/∂w]
    λ ← λ − γ [∂L_valid/∂λ − (∂²L_train/∂λ∂w) q]

All three are taken at the same w, q and λ, from the same minibatches. Where q has come to rest it
is (∂²L_train/∂w²)⁻¹ ∂L_valid/∂w, and the third direction the implicit hypergradient: no linear
system is solved, its solution is followed. (The paper's v is −q.)

Dagréou, Ablin, Vaiter and Moreau (2022), "A framework for bilevel optimization that enables
stochastic and global variance reduction algorithms", arXiv:2201.13409.
"""

from typing import Any, NamedTuple

import jax
import optax

from shohypernet._internal import frozen
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import _tracking as tracking
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


class Directions(NamedTuple):
    """What λ and its adjoint move along.

    Attributes:
      gradient: ∂L_valid/∂λ − (∂²L_train/∂λ∂w) q, a tree like λ.
      residual: (∂²L_train/∂w²) q − ∂L_valid/∂w, a tree like the weights.
      valid_loss: L_valid, scalar.
    """

    gradient: Hyperparams
    residual: Params
    valid_loss: jax.Array


def hypergradient(
    problem: Problem,
    hyperparams: Hyperparams,
    params: Params,
    adjoint: Params,
    train_batch: Batch,
    valid_batch: Batch,
    key: Key,
) -> Directions:
    """The hypergradient at a tracked adjoint, and the residual that the adjoint descends.

    Args:
      problem: gives both losses; without model state (see `problem.with_state`).
      hyperparams: λ, as the losses of `problem` read it.
      params: w.
      adjoint: q, a tree like w, zero for weights that training doesn't move.
      train_batch: the training examples of both products.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss.

    Returns:
      Both directions, which take three gradient evaluations: one of L_valid, and two of the
      products, which share a pass.
    """
    made = tracking.estimate(
        problem, TrainState(params, ()), adjoint, hyperparams, train_batch, valid_batch, key
    )
    moved = frozen.moved_by_loss(problem, params, hyperparams, train_batch, key)
    return Directions(
        gradient=optax.tree.sub(made.valid.direct, made.train.mixed),
        residual=tracking.residual(made.train, made.valid, moved),
        valid_loss=made.valid_loss,
    )


def soba(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    adjoint_optimizer: optax.GradientTransformation | None = None,
) -> HyperOptimizer:
    """SOBA: every training batch moves weights and adjoint, and the last of a round λ as well.

    With one batch a round (`inner_steps=1`) it is the paper's algorithm. At constant step sizes it
    ends in the noise of its minibatches; see `saba`.

    Args:
      problem: the bilevel problem.
      optimizer: any optax optimizer of the weights.
      hyper_optimizer: for λ.
      adjoint_optimizer: for q, the minimizer of a quadratic with the training loss's curvature; if
        None the same as for the weights, as in the paper.

    Returns:
      A HyperOptimizer whose round of T training batches takes 4T gradient evaluations.

    Raises:
      TypeError: if optimizer is a function of λ, which this can't tune, or something else that is
        no problem or optimizer.

    Reference:
      Dagréou et al. (2022), arXiv:2201.13409.
    """
    parts = restarts.parts("soba", problem, optimizer, hyper_optimizer)
    of_adjoint = tracking.optimizer_of_adjoint("soba", parts, adjoint_optimizer)

    def estimate(memory: tuple[()], *at: Any) -> tracking.Estimate:
        return tracking.estimate(parts.problem, *at)

    return tracking.tracked(parts, of_adjoint, estimate, lambda params, hyperparams: (), problem)
