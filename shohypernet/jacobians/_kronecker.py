"""A response Jacobian from the curvature of each layer: running averages, and no training.

    J δ = −H⁻¹ (∂²L_train/∂w∂λ) δ

By the implicit function theorem this is ∂w*/∂λ if H is the Hessian of the training loss. Here it is
first replaced by a model C (see `_preconditioner`): the Kronecker factors of each layer, running
averages that are refreshed seldom, a diagonal for all other weights, and the exact curvature of the
penalties. For a linear model with squared error C is exact. For others it can, if asked for
`products`, precondition steps towards the solution with the Gauss-Newton curvature H itself, on
minibatches, from round to round:

    v ← v + ρ C⁻¹ (∂L_valid/∂w − H v),    dL_valid/dλ = ∂L_valid/∂λ − (∂²L_train/∂w∂λ)ᵀ v

The memory is that of the weights, and of A and G twice over.

Factors: Martens and Grosse (2015), arXiv:1503.05671. Centering: Bae and Grosse (2020),
arXiv:2010.13514. Tracking: Dagréou et al. (2022), arXiv:2201.13409 (SOBA).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet._internal.batching import same_for_all
from shohypernet._internal.layers import LayerType, layers_of
from shohypernet.jacobians import _factors as factors
from shohypernet.jacobians._adjoint import tracked
from shohypernet.jacobians._base import Point, ResponseJacobian
from shohypernet.jacobians._factors import CurvatureEstimate
from shohypernet.jacobians._preconditioner import Basis, basis, inverse, no_basis
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


class KroneckerState(NamedTuple):
    """State of `kronecker`: running averages of the curvature.

    Attributes:
      average: running average of the estimates.
      bases: eigenvectors of each layer's factors.
      rounds: rounds done, scalar int32.
      refreshes: estimates taken, scalar int32.
      rejected: estimates that weren't finite and were left out, scalar int32.
      adjoint: v, a tree like the weights; () if it isn't tracked.
    """

    average: CurvatureEstimate
    bases: list[Basis]
    rounds: jax.Array
    refreshes: jax.Array
    rejected: jax.Array
    adjoint: Any


def kronecker(
    *,
    refresh_every: int = 50,
    examples: int = 1_000,
    window: int = 10,
    iterations: int = 3,
    damping: float = 1e-3,
    products: int = 0,
    rate: float = 0.1,
    layer_types: Mapping[type[nn.Module], LayerType] | None = None,
) -> ResponseJacobian:
    """J = −H⁻¹ ∂²L_train/∂w∂λ by a Kronecker-factored curvature, for any Flax model.

    Dense layers, convolutions and embeddings have factors, also where they are applied several
    times for an example; all other weights have a diagonal. `describe` says which.

    Args:
      refresh_every: number of rounds between updates of the Kronecker factors. Before as many
        rounds are over, they are updated in rounds 0, 1, 2, 4, 8 and so on, as weights change fast.
      examples: number of examples for an update, in whole batches, if the round has so many.
      window: number of updates in the running average, all alike until there are so many.
      iterations: of conjugate gradients with C, at most. One is enough where each array of weights
        has one decay; where each weight has its own, three are better.
      damping: γ of each array of weights, as a share of its mean curvature.
      products: number of batches a round for a step of v with the Gauss-Newton curvature itself. It
        pays where λ and the weights have come to rest, or nearly so: v averages over rounds, and
        lags behind a λ that moves.
      rate: ρ, at most.
      layer_types: types of layer by their class, besides those that are known.

    Returns:
      A ResponseJacobian. An update of the factors counts as one gradient evaluation for each batch,
      and a vjp as one, and three for each of `products`; products with the penalties' curvature,
      which touch no data, aren't counted. Its functions raise a ValueError for a problem that calls
      no Flax module.

    Raises:
      ValueError: for a count below 1, a negative damping, or a rate that isn't positive.
    """
    validation.whole(
        "kronecker",
        refresh_every=refresh_every,
        examples=examples,
        window=window,
        iterations=iterations,
    )
    validation.whole("kronecker", least=0, products=products)
    validation.not_negative("kronecker", damping=damping)
    validation.positive("kronecker", rate=rate)

    made = _Kronecker(
        refresh_every, examples, window, iterations, damping, products, rate, layer_types
    )
    return ResponseJacobian(
        made.init,
        made.update,
        made.jvp,
        made.vjp,
        made.update_evaluations,
        vjp_evaluations=1 + 3 * products,
        rejected=lambda state: state.rejected,
    )


class _Kronecker(NamedTuple):
    """The functions of a ResponseJacobian, with the arguments of `kronecker`."""

    refresh_every: int
    examples: int
    window: int
    iterations: int
    damping: float
    products: int
    rate: float
    layer_types: Mapping[type[nn.Module], LayerType] | None

    def init(
        self, problem: Problem, key: Key, params: Params, hyperparams: Hyperparams
    ) -> KroneckerState:
        del key, hyperparams
        layers = layers_of(problem, params, self.layer_types)
        none = [jnp.int32(0) for _ in range(3)]
        adjoint = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
        return KroneckerState(
            factors.none_like(layers, params),
            [no_basis(layer) for layer in layers],
            *none,
            adjoint=adjoint if self.products else (),
        )

    def update(
        self,
        problem: Problem,
        key: Key,
        state: KroneckerState,
        params: Params,
        hyperparams: Hyperparams,
        train_batches: Batch,
    ) -> tuple[KroneckerState, jax.Array]:
        sizes = jax.tree.leaves(train_batches)[0].shape[:2]
        batches = jax.tree.map(lambda leaf: leaf[-self._used_batches(*sizes) :], train_batches)

        def refresh(state: KroneckerState) -> KroneckerState:
            layers = layers_of(problem, params, self.layer_types)
            new = factors.estimate(problem, layers, params, hyperparams, batches, key)
            return _refreshed(state, new, self.window)

        rounds = same_for_all(state.rounds)
        taken = self.update_evaluations(problem, params, rounds, *sizes)
        state = jax.lax.cond(self._due(rounds), refresh, lambda state: state, state)
        return state._replace(rounds=state.rounds + 1), taken

    def jvp(
        self, problem: Problem, state: KroneckerState, point: Point, direction: Hyperparams
    ) -> Params:
        _, mixed = jax.jvp(_slope(problem, point), (point.hyperparams,), (direction,))
        return optax.tree.scale(-1, self._solver(problem, state, point)(mixed))

    def vjp(
        self, problem: Problem, state: KroneckerState, point: Point, cotangent: Params
    ) -> tuple[Hyperparams, KroneckerState]:
        solve = self._solver(problem, state, point)
        if self.products:
            adjoint = tracked(
                problem,
                point,
                state.adjoint,
                cotangent,
                solve,
                fresh=state.rounds <= 1,
                products=self.products,
                rate=self.rate,
            )
            state = state._replace(adjoint=adjoint)
        else:
            adjoint = solve(cotangent)
        _, pull = jax.vjp(_slope(problem, point), point.hyperparams)
        return optax.tree.scale(-1, pull(adjoint)[0]), state

    def update_evaluations(
        self, problem: Problem, params: Params, rounds: Any, inner_steps: int, batch_size: int
    ) -> Any:
        del problem, params
        return jnp.where(self._due(rounds), self._used_batches(inner_steps, batch_size), 0)

    def _due(self, rounds: Any) -> Any:
        early = (rounds < self.refresh_every) & (rounds & (rounds - 1) == 0)
        return (rounds % self.refresh_every == 0) | early

    def _used_batches(self, inner_steps: int, batch_size: int) -> int:
        return min(inner_steps, math.ceil(self.examples / batch_size))

    def _solver(
        self, problem: Problem, state: KroneckerState, point: Point
    ) -> Callable[[Params], Params]:
        layers = layers_of(problem, point.params, self.layer_types)
        return inverse(
            problem, layers, state.bases, state.average, point, self.damping, self.iterations
        )


def _refreshed(state: KroneckerState, new: CurvatureEstimate, window: int) -> KroneckerState:
    """The running average with one estimate more, or as it was if that isn't finite."""
    share = 1 / jnp.minimum(state.refreshes + 1, window)
    average = jax.tree.map(
        lambda old, new: (old + share * (new - old)).astype(old.dtype), state.average, new
    )
    bases = [basis(layer) for layer in average.layers]
    finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((average, bases))])
    good = jnp.all(finite)
    average, bases = jax.tree.map(
        lambda old, new: jnp.where(good, new, old),
        (state.average, state.bases),
        (average, bases),
    )
    return state._replace(
        average=average,
        bases=bases,
        refreshes=state.refreshes + good,
        rejected=state.rejected + ~good,
    )


def _slope(problem: Problem, point: Point) -> Callable[[Hyperparams], Params]:
    """∂L_train/∂w at w₀ as a function of λ."""

    def slope(hyperparams: Hyperparams) -> Params:
        batch = point.last_batch
        return jax.grad(problem.train_loss)(point.params, hyperparams, batch, point.key)

    return slope
