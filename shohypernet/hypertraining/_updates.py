"""The two updates that Algorithms 2, 3 and 4 are made of.

    φ ← φ − α ∇_φ (1/K) Σ_k L_train(w_φ(λ_k), λ_k, x)
    λ̂ ← λ̂ − β ∇_λ̂ L_valid(w_φ(λ̂), x)

α and β stand for any optax optimizers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import sharding, validation
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import Info
from shohypernet.hyperparameters import Sampler
from shohypernet.problem import Problem

ResponseLoss = Callable[[Problem, Hypernet, Any, Any, Any, jax.Array], jax.Array]


class State(NamedTuple):
    """What every hyper-training step needs of the one before.

    Attributes:
      hyperparams: λ̂, unconstrained.
      hypernet_params: φ.
      hyper_opt_state: the optimizer of λ̂.
      hypernet_opt_state: the optimizer of φ.
    """

    hyperparams: Any
    hypernet_params: Any
    hyper_opt_state: Any
    hypernet_opt_state: Any


def shared_minibatch(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_params: Any,
    sampled: Any,
    batch: Any,
    key: jax.Array,
) -> jax.Array:
    """Mean training loss over sampled λ that all see one minibatch.

    The data is read once for all of them and the products become wide.

    Args:
      problem: gives the training loss.
      hypernet: gives the weights.
      hypernet_params: φ.
      sampled: hyperparameters with a leading axis of K.
      batch: one minibatch.
      key: for what is random in the loss.

    Returns:
      (1/K) Σ_k L_train(w_φ(λ_k), λ_k, batch), a scalar.
    """

    def one(hyperparams: Any, key: jax.Array) -> jax.Array:
        params = hypernet.apply(hypernet_params, hyperparams)
        return problem.train_loss(params, hyperparams, batch, key)

    return jnp.mean(jax.vmap(one)(sampled, jax.random.split(key, leading_size(sampled))))


def sliced_minibatch(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_params: Any,
    sampled: Any,
    batch: Any,
    key: jax.Array,
) -> jax.Array:
    """Mean training loss over sampled λ that each see their own K-th of the minibatch.

    More examples a step for the same number of example gradients. Arguments and result are as for
    `shared_minibatch`, with L_train(w_φ(λ_k), λ_k, batch_k).

    Raises:
      ValueError: when the minibatch cannot be cut into K equal slices.
    """
    samples, examples = leading_size(sampled), leading_size(batch)
    if examples % samples:
        raise ValueError(
            f"sliced_minibatch cuts a minibatch of {examples} into {samples} slices, one for each "
            f"sampled λ; choose a batch size that {samples} divides, or use shared_minibatch."
        )
    slices = jax.tree.map(lambda x: x.reshape(samples, -1, *x.shape[1:]), batch)

    def one(hyperparams: Any, examples: Any, key: jax.Array) -> jax.Array:
        params = hypernet.apply(hypernet_params, hyperparams)
        return problem.train_loss(params, hyperparams, examples, key)

    return jnp.mean(jax.vmap(one)(sampled, slices, jax.random.split(key, samples)))


class Updates(NamedTuple):
    """The pieces of a hyper-training step, with everything but state and data already given.

    A state is a `State`, or any NamedTuple that has its fields and more.

    Attributes:
      init: `init(key, hyperparams) -> State`.
      train_hypernet: `train_hypernet(key, state, train_batches) -> (state, loss)`: one φ update for
        each training batch, each with fresh λ_1 … λ_K, and the mean of their losses.
      hypergradient: `hypergradient(state, valid_batch) -> (loss, gradient)` at λ̂, through the
        hypernet: dL_valid/dλ = ∂L_valid/∂λ + ∂L_valid/∂w · ∂w_φ/∂λ.
      move_hyperparams: `move_hyperparams(state, gradient) -> state`: one λ̂ update.
      weights: `weights(state) -> params`, w_φ(λ̂).
    """

    init: Callable[[jax.Array, Any], State]
    train_hypernet: Callable[[jax.Array, Any, Any], tuple[Any, jax.Array]]
    hypergradient: Callable[[Any, Any], tuple[jax.Array, Any]]
    move_hyperparams: Callable[[Any, Any], Any]
    weights: Callable[[Any], Any]


def build(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    sampler: Sampler,
    samples: int,
    response_loss: ResponseLoss,
) -> Updates:
    """The updates for one problem, hypernet, pair of optimizers and p(λ).

    Raises:
      ValueError: if samples, the number K of λ drawn for each φ update, is below 1.
    """
    validation.whole("hyper-training", samples=samples)

    def init(key: jax.Array, hyperparams: Any) -> State:
        # A dtype of its own, not a Python number's weak one, which the first step would change.
        hyperparams = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), hyperparams)
        hypernet_params = hypernet.init(key, hyperparams)
        return State(
            hyperparams=hyperparams,
            hypernet_params=hypernet_params,
            hyper_opt_state=hyper_optimizer.init(hyperparams),
            hypernet_opt_state=hypernet_optimizer.init(hypernet_params),
        )

    def train_hypernet(key: jax.Array, state: Any, train_batches: Any) -> tuple[Any, jax.Array]:
        def update(carry: tuple[Any, Any], inputs: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            hypernet_params, opt_state = carry
            batch, key = inputs
            key_sample, key_loss = jax.random.split(key)
            sampled = jax.vmap(sampler, in_axes=(0, None))(
                jax.random.split(key_sample, samples), state.hyperparams
            )
            sampled = sharding.spread(sampled, "samples")
            loss, gradient = jax.value_and_grad(
                lambda phi: response_loss(problem, hypernet, phi, sampled, batch, key_loss)
            )(hypernet_params)
            change, opt_state = hypernet_optimizer.update(gradient, opt_state, hypernet_params)
            return (optax.apply_updates(hypernet_params, change), opt_state), loss

        carry = state.hypernet_params, state.hypernet_opt_state
        keys = jax.random.split(key, leading_size(train_batches))
        carry, losses = jax.lax.scan(update, carry, (train_batches, keys))
        state = state._replace(hypernet_params=carry[0], hypernet_opt_state=carry[1])
        return state, jnp.mean(losses)

    def hypergradient(state: Any, valid_batch: Any) -> tuple[jax.Array, Any]:
        def loss(hyperparams: Any) -> jax.Array:
            params = hypernet.apply(state.hypernet_params, hyperparams)
            # As a batch of one, for which XLA computes a dense layer's gradient as Gᵀ·X. Alone it
            # becomes Xᵀ·G, which takes a CPU twice as long where the outputs are few.
            weights, point = jax.tree.map(lambda leaf: leaf[None], (params, hyperparams))
            return jax.vmap(problem.valid_loss, (0, 0, None))(weights, point, valid_batch)[0]

        return jax.value_and_grad(loss)(state.hyperparams)

    def move_hyperparams(state: Any, gradient: Any) -> Any:
        change, opt_state = hyper_optimizer.update(
            gradient, state.hyper_opt_state, state.hyperparams
        )
        hyperparams = optax.apply_updates(state.hyperparams, change)
        return state._replace(hyperparams=hyperparams, hyper_opt_state=opt_state)

    def weights(state: Any) -> Any:
        return hypernet.apply(state.hypernet_params, state.hyperparams)

    return Updates(init, train_hypernet, hypergradient, move_hyperparams, weights)


def info(train_loss: jax.Array, valid_loss: jax.Array, gradient: Any, evaluations: int) -> Info:
    """An Info from what the two updates return."""
    return Info(train_loss, valid_loss, optax.tree.norm(gradient), jnp.asarray(evaluations))


def leading_size(tree: Any) -> int:
    """The length of the leading axis that the leaves share."""
    return jax.tree.leaves(tree)[0].shape[0]
