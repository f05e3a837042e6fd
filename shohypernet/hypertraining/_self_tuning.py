"""Self-tuning networks: a hyperparameter for each example, and a response inside the layers.

    λ_b = λ̂ + σ ∘ ε_b,  ε_b ~ N(0, I)                          for each example b of a minibatch

    W ← W − α ∇_W L_train(W, λ̂, x)                             weights at λ̂
    φ ← φ − α ∇_φ mean_b L_train(f₀ + ∂f/∂h (λ_b − λ̂), λ_b, x_b)    how they respond to λ
    λ̂, σ ← their step along ∇ [mean_b L_valid(w_φ(λ_b), x_b) − τ Σ_i log(σ_i √(2πe))]

w_φ is the response of `_structured_response`, φ its U, V, C and c. Only the validation loss moves
λ̂, and only through the response, so that the training loss needs no derivative in λ: dropout
rates, augmentations and whole numbers will do.

MacKay et al. (2019), "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using
Structured Best-Response Functions", arXiv:1903.03088. Bae and Grosse (2020), "Delta-STN: Efficient
Bilevel Optimization for Neural Networks using Structured Response Jacobians", arXiv:2010.13514.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import frozen, validation
from shohypernet._internal.layers import Layer, LayerType, layers_of
from shohypernet._internal.trees import typed
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import _perturbed_losses as perturbed
from shohypernet.hypertraining import _self_tuning_updates as updates
from shohypernet.hypertraining import _structured_response as structured
from shohypernet.hypertraining._perturbed_losses import Distribution, Network
from shohypernet.hypertraining._self_tuning_updates import Optimizers, SelfTuningState
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Hyperparams, Key, Params


def self_tuning(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    response_optimizer: optax.GradientTransformation | None = None,
    linearized: bool = True,
    scale: float = 1.0,
    entropy_weight: float = 1e-3,
    warmup_rounds: int = 0,
    examples_per_draw: int = 1,
    layer_types: Mapping[type[nn.Module], LayerType] | None = None,
) -> HyperOptimizer:
    """A network that tunes its own regularization while it trains: STN or Delta-STN.

    Dense, convolutional and embedding layers respond to λ, and with them `nn.LSTMCell` and
    `nn.GRUCell`, which are made of dense ones. Other weights, such as scales of a normalization,
    are trained at λ̂ and don't respond. A penalty of the weights is taken at two opposite draws for
    each minibatch, as its weights are those of one λ.

    The schedules of the papers: linearized, 5 inner steps to a round, RMSprop 1e-2 for λ̂, a scale
    of 1; else 2 inner steps, Adam 3e-3, a scale of 0.5. Both start from rates of 0.05, after a
    warm-up of some epochs.

    Args:
      problem: the bilevel problem, whose training loss is a mean over examples, and whose model is
        a Flax Linen module. Make a whole number of a bounded λ by `jnp.floor` in the loss.
      optimizer: α, for W: whatever trains this model well at fixed λ.
      hyper_optimizer: β, for λ̂ and σ.
      response_optimizer: for φ; `optimizer` if None.
      linearized: Delta-STN: W is trained at λ̂ itself, and φ on the network linearized in λ − λ̂.
        Otherwise STN: W and φ together, at λ_b, and the response reads λ rather than λ − λ̂.
      scale: σ at the start, in unconstrained units of λ.
      entropy_weight: τ, which keeps σ from going to zero; at 0 σ is held.
      warmup_rounds: rounds before λ̂ and σ begin to move.
      examples_per_draw: consecutive examples of a minibatch that share a λ_b.
      layer_types: further types of layer that respond, as for `jacobians.kronecker`.

    Returns:
      A HyperOptimizer whose round takes 3 · inner steps + 2 gradient evaluations, or, not
      linearized, 2 · inner steps + 2: the product of a layer with its response counts as a second
      one. The validation loss of its Info is the mean at the λ_b.

    Raises:
      TypeError: for something that is no problem or optimizer.
      ValueError: for a scale that isn't positive, an integer or categorical λ, a model without
        layers that respond, or one with state unless linearized.

    Reference:
      arXiv:1903.03088, and, linearized, arXiv:2010.13514.
    """
    inner = unconstrained(problem)
    if response_optimizer is None:
        response_optimizer = optimizer
    optimizers = Optimizers(
        *validation.optimizer(
            "self_tuning",
            optimizer=optimizer,
            response_optimizer=response_optimizer,
            hyper_optimizer=hyper_optimizer,
        )
    )
    validation.positive("self_tuning", scale=scale)
    validation.whole("self_tuning", examples_per_draw=examples_per_draw)
    validation.whole("self_tuning", least=0, warmup_rounds=warmup_rounds)
    validation.require(
        entropy_weight >= 0, f"self_tuning() needs entropy_weight >= 0, got {entropy_weight}."
    )
    if problem.stateful and not linearized:
        raise ValueError(
            "self_tuning(linearized=False) trains weights at many λ at once, but the model's state "
            "belongs to the weights of one; use linearized=True, which trains them at λ̂."
        )
    layers = _responding_layers(inner, optimizers.weights, layer_types)
    network = Network(inner, layers, linearized, examples_per_draw)
    made = _SelfTuning(network, optimizers, scale, entropy_weight, warmup_rounds)
    return HyperOptimizer(
        made.init,
        made.step,
        made.weights,
        attrgetter("model_state"),
        problem,
        waiting=made.waiting,
        weights_at=made.weights_at,
    )


class _SelfTuning(NamedTuple):
    """The functions of a HyperOptimizer, with the arguments of `self_tuning`."""

    network: Network
    optimizers: Optimizers
    scale: float
    entropy_weight: float
    warmup_rounds: int

    def init(self, key: Key, hyperparams: Hyperparams) -> SelfTuningState:
        network, optimizers = self.network, self.optimizers
        key_params, key_response = jax.random.split(key)
        hyperparams = typed(hyperparams)
        trained = inner_loop.init(network.problem, optimizers.weights, key_params, hyperparams)
        started = 0.0 if network.linearized else 0.01
        count = ravel_pytree(hyperparams)[0].size
        responses = structured.init(key_response, network.layers, trained.params, count, started)
        phi: Any = responses
        params = trained.params
        if not network.linearized:  # so that the weights at λ₀ are the model's, whatever they add
            at_start = -ravel_pytree(hyperparams)[0]
            params = structured.weights_at(network.layers, responses, params, at_start)
        raw = float(np.log(np.expm1(self.scale)))
        scales = jax.tree.map(lambda leaf: jnp.full_like(leaf, raw), hyperparams)
        return SelfTuningState(
            hyperparams=hyperparams,
            scales=scales,
            params=params,
            responses=responses,
            hyper_opt_state=optimizers.hyperparams.init(hyperparams),
            scale_opt_state=optimizers.hyperparams.init(scales),
            opt_state=trained.opt_state,
            response_opt_state=optimizers.responses.init(phi),
            model_state=trained.model_state,
            rounds=jnp.zeros((), jnp.int32),
        )

    def step(
        self, key: Key, state: SelfTuningState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[SelfTuningState, Info]:
        key_train, key_valid = jax.random.split(key)
        linearized = self.network.linearized
        update = updates.linearized if linearized else updates.joint
        state, losses = jax.lax.scan(
            lambda state, at: update(self.network, self.optimizers, state, *at),
            state,
            inner_loop.inputs(key_train, train_batches),
        )

        def valid_loss(distribution: Distribution) -> tuple[jax.Array, jax.Array]:
            at = state.params, state.responses, state.model_state, valid_batch, key_valid
            return perturbed.valid_loss(self.network, distribution, *at, self.entropy_weight)

        (_, loss), gradient = jax.value_and_grad(valid_loss, has_aux=True)(state.distribution)
        if not self.entropy_weight:
            gradient = gradient._replace(scales=optax.tree.zeros_like(gradient.scales))
        warm = state.rounds >= self.warmup_rounds
        state = updates.hyperparams(self.optimizers.hyperparams, state, gradient, loss, warm)
        evaluations = (3 if linearized else 2) * len(losses) + 2
        norm = optax.tree.norm(gradient.center)
        info = Info(jnp.mean(losses), loss, norm, jnp.asarray(evaluations, jnp.int32))
        return state, info

    def weights(self, state: SelfTuningState) -> Params:
        if self.network.linearized:
            return state.params
        return self.weights_at(state, state.hyperparams)

    def weights_at(
        self, state: SelfTuningState, hyperparams: Hyperparams, train_batch: Batch = None
    ) -> Params:
        del train_batch
        moved = ravel_pytree(hyperparams)[0]
        if self.network.linearized:
            moved = moved - ravel_pytree(state.hyperparams)[0]
        return structured.weights_at(self.network.layers, state.responses, state.params, moved)

    def waiting(self, state: SelfTuningState) -> Any:
        return state.rounds <= self.warmup_rounds


def _responding_layers(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    types: Mapping[type[nn.Module], LayerType] | None,
) -> tuple[Layer, ...]:
    """The layers of known types that are trained."""
    params = problems.param_shapes(problem)
    moved = jax.tree.leaves(frozen.moved_by_optimizer(optimizer, params))
    layers = tuple(layer for layer in layers_of(problem, params, types) if moved[layer.kernel])
    if not layers:
        raise ValueError(
            "self_tuning() found no layer that could respond to λ: none of the model's is an "
            "nn.Dense, DenseGeneral, Conv or Embed that is trained. Name types of your own by "
            "layer_types, or tune by local_response()."
        )
    return layers
