"""The state of self-tuning networks, and the updates of its parts: see `_self_tuning`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet.hypertraining import _perturbed_losses as perturbed
from shohypernet.hypertraining._perturbed_losses import Distribution, Network
from shohypernet.hypertraining._structured_response import LayerResponse
from shohypernet.inner_loop import TrainState
from shohypernet.types import Batch, Hyperparams, Key, ModelState, OptState, Params


class SelfTuningState(NamedTuple):
    """State of `self_tuning`.

    Attributes:
      hyperparams: λ̂, unconstrained.
      scales: softplus⁻¹(σ), a tree like λ̂.
      params: W.
      responses: φ, of each layer that responds.
      hyper_opt_state: state of the optimizer of λ̂.
      scale_opt_state: state of the optimizer of σ.
      opt_state: state of the optimizer of W.
      response_opt_state: state of the optimizer of φ.
      model_state: the model's at λ̂.
      rounds: rounds done, scalar int32.
    """

    hyperparams: Hyperparams
    scales: Hyperparams
    params: Params
    responses: tuple[LayerResponse, ...]
    hyper_opt_state: OptState
    scale_opt_state: OptState
    opt_state: OptState
    response_opt_state: OptState
    model_state: ModelState
    rounds: jax.Array

    @property
    def distribution(self) -> Distribution:
        """p(λ | λ̂, σ)."""
        return Distribution(self.hyperparams, self.scales)


class Optimizers(NamedTuple):
    """Of W, of φ, and of λ̂ and σ."""

    weights: optax.GradientTransformation
    responses: optax.GradientTransformation
    hyperparams: optax.GradientTransformation


def linearized(
    network: Network, optimizers: Optimizers, state: SelfTuningState, batch: Batch, key: Key
) -> tuple[SelfTuningState, jax.Array]:
    """W at λ̂, and φ on the network linearized where W stood."""
    key_weights, key_response = jax.random.split(key)
    trained = TrainState(state.params, state.opt_state, state.model_state)
    trained, loss = inner_loop.train_step(
        network.problem, optimizers.weights, trained, state.hyperparams, batch, key_weights
    )

    def response_loss(responses: Any) -> jax.Array:
        at = state.params, responses, state.model_state, batch, key_response
        return perturbed.train_loss(network, state.distribution, *at)

    phi: Any = state.responses
    gradient = jax.grad(response_loss)(phi)
    responses, response_opt_state = inner_loop.apply_gradient(
        optimizers.responses, gradient, state.response_opt_state, phi, value=loss
    )
    state = state._replace(
        params=trained.params,
        responses=responses,
        opt_state=trained.opt_state,
        response_opt_state=response_opt_state,
        model_state=trained.model_state,
    )
    return state, loss


def joint(
    network: Network, optimizers: Optimizers, state: SelfTuningState, batch: Batch, key: Key
) -> tuple[SelfTuningState, jax.Array]:
    """W and φ together, at draws of λ."""

    def joint_loss(params: Params, responses: Any) -> jax.Array:
        at = params, responses, state.model_state, batch, key
        return perturbed.train_loss(network, state.distribution, *at)

    phi: Any = state.responses
    loss, gradients = jax.value_and_grad(joint_loss, (0, 1))(state.params, phi)
    params, opt_state = inner_loop.apply_gradient(
        optimizers.weights, gradients[0], state.opt_state, state.params, value=loss
    )
    responses, response_opt_state = inner_loop.apply_gradient(
        optimizers.responses, gradients[1], state.response_opt_state, phi, value=loss
    )
    state = state._replace(
        params=params,
        responses=responses,
        opt_state=opt_state,
        response_opt_state=response_opt_state,
    )
    return state, loss


def hyperparams(
    optimizer: optax.GradientTransformation,
    state: SelfTuningState,
    gradient: Distribution,
    loss: jax.Array,
    warm: jax.Array,
) -> SelfTuningState:
    """The state after an update of λ̂ and σ, if `warm`, with statistics of their own."""
    center, hyper_opt_state = inner_loop.apply_gradient(
        optimizer, gradient.center, state.hyper_opt_state, state.hyperparams, value=loss
    )
    scales, scale_opt_state = inner_loop.apply_gradient(
        optimizer, gradient.scales, state.scale_opt_state, state.scales, value=loss, scales=True
    )
    moved = {
        "hyperparams": center,
        "hyper_opt_state": hyper_opt_state,
        "scales": scales,
        "scale_opt_state": scale_opt_state,
    }
    before = {name: getattr(state, name) for name in moved}
    kept = jax.tree.map(lambda new, old: jnp.where(warm, new, old), moved, before)
    return state._replace(rounds=state.rounds + 1, **kept)
