"""Algorithm 2: train the hypernet everywhere, then move λ̂ through it.

    λ_k ~ p(λ);  φ ← φ − α ∇_φ (1/K) Σ_k L_train(w_φ(λ_k), λ_k, x)    for the first rounds
    λ̂ ← λ̂ − β ∇_λ̂ L_valid(w_φ(λ̂), x)                                for the rest

Lorraine and Duvenaud (2018), "Stochastic Hyperparameter Optimization through Hypernetworks",
arXiv:1802.09419.
"""

from operator import attrgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import _updates as updates
from shohypernet.hypertraining._updates import ResponseLoss
from shohypernet.problem import Problem, unconstrained
from shohypernet.samplers import Sampler
from shohypernet.types import Batch, Hyperparams, Key, ModelState, OptState, Params


class GlobalResponseState(NamedTuple):
    """State of `global_response`: the fields of `HypernetState`, and the rounds done.

    Attributes:
      hyperparams: λ̂, unconstrained.
      hypernet_params: φ.
      hyper_opt_state: state of the optimizer of λ̂.
      hypernet_opt_state: state of the optimizer of φ.
      model_state: the model's.
      rounds: rounds done, scalar int32; they tell the phase.
    """

    hyperparams: Hyperparams
    hypernet_params: Params
    hyper_opt_state: OptState
    hypernet_opt_state: OptState
    model_state: ModelState
    rounds: jax.Array


def global_response(
    problem: Problem,
    hypernet: Hypernet,
    *,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    sampler: Sampler,
    hypernet_rounds: int,
    samples: int = 2,
    response_loss: ResponseLoss = updates.shared_minibatch,
) -> HyperOptimizer:
    """Hyper-training with a fixed distribution of hyperparameters.

    Every round reports L_valid(w_φ(λ̂)), but its gradient is taken in the second phase only.

    Args:
      problem: the bilevel problem.
      hypernet: the model of the best response over all of p(λ), so not a linear one.
      hypernet_optimizer: α, for φ.
      hyper_optimizer: β, for λ̂.
      sampler: p(λ), such as `samplers.gaussian(loc, scale)`.
      hypernet_rounds: rounds that train φ, before those that move λ̂.
      samples: K, sampled λ for each φ update.
      response_loss: whether the λ of one update share a minibatch, or each see a slice of it.

    Returns:
      A HyperOptimizer whose round takes samples · inner steps gradient evaluations in the first
      phase and 1 in the second. Under `vmap`, and so in `fit`, the phase is no longer a branch:
      both are computed and one is kept, so rounds of the second phase cost as much time as others.

    Raises:
      ValueError: if samples is below 1, or hypernet_rounds below 0.

    Reference:
      Algorithm 2 of arXiv:1802.09419.
    """
    validation.whole("global_response", least=0, hypernet_rounds=hypernet_rounds)
    inner = unconstrained(problem)
    optimizers = hypernet_optimizer, hyper_optimizer
    parts = updates.build(
        "global_response", inner, hypernet, *optimizers, sampler, samples, response_loss
    )

    def init(key: Key, hyperparams: Hyperparams) -> GlobalResponseState:
        return GlobalResponseState(*parts.init(key, hyperparams), rounds=jnp.zeros((), jnp.int32))

    def train(
        key: Key, state: GlobalResponseState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[GlobalResponseState, Info]:
        state, train_loss = parts.train_hypernet(key, state, train_batches)
        at = parts.weights(state), state.model_state, state.hyperparams
        valid_loss = inner_loop.valid_loss(inner, *at, valid_batch)
        no_gradient = jax.tree.map(jnp.zeros_like, state.hyperparams)
        evaluations = samples * inner_loop.count(train_batches)
        return state, updates.info(train_loss, valid_loss, no_gradient, evaluations)

    def search(
        key: Key, state: GlobalResponseState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[GlobalResponseState, Info]:
        at = parts.weights(state), state.model_state, state.hyperparams
        first_batch = jax.tree.map(lambda leaf: leaf[0], train_batches)
        train_loss, _ = inner_loop.train_loss(inner, *at, first_batch, key)
        valid_loss, gradient = parts.hypergradient(state, valid_batch)
        state = parts.move_hyperparams(state, gradient, valid_loss)
        return state, updates.info(train_loss, valid_loss, gradient, evaluations=1)

    def step(
        key: Key, state: GlobalResponseState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[GlobalResponseState, Info]:
        training = state.rounds < hypernet_rounds
        state, info = jax.lax.cond(training, train, search, key, state, train_batches, valid_batch)
        return state._replace(rounds=state.rounds + 1), info

    return HyperOptimizer(
        init,
        step,
        parts.weights,
        attrgetter("model_state"),
        problem,
        waiting=lambda state: state.rounds <= hypernet_rounds,
        weights_at=parts.weights_at,
    )
