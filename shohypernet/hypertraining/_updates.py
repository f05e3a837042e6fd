"""The two updates that Algorithms 2, 3 and 4 are made of.

    φ ← φ − α ∇_φ (1/K) Σ_k L_train(w_φ(λ_k), λ_k, x)
    λ̂ ← λ̂ − β ∇_λ̂ L_valid(w_φ(λ̂), x)

α and β stand for any optax optimizers.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import frozen, jaxprs, sharding, validation
from shohypernet._internal.trees import typed
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import Info
from shohypernet.problem import Problem
from shohypernet.samplers import Sampler
from shohypernet.types import Batch, Hyperparams, Key, ModelState, OptState, Params


class HypernetState(NamedTuple):
    """State of a method whose hypernet makes the weights.

    Attributes:
      hyperparams: λ̂, unconstrained.
      hypernet_params: φ.
      hyper_opt_state: state of the optimizer of λ̂.
      hypernet_opt_state: state of the optimizer of φ.
      model_state: the model's, which no loss may read (see `require_hypernet_can_train`).
    """

    hyperparams: Hyperparams
    hypernet_params: Params
    hyper_opt_state: OptState
    hypernet_opt_state: OptState
    model_state: ModelState


class ResponseLoss(Protocol):
    """Mean training loss over sampled λ, of a hypernet's weights."""

    def __call__(
        self,
        problem: Problem,
        hypernet: Hypernet,
        hypernet_params: Params,
        sampled: Hyperparams,
        batch: Batch,
        key: Key,
    ) -> jax.Array:
        """Return (1/K) Σ_k L_train(w_φ(λ_k), λ_k), a scalar."""
        ...


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
      key: PRNG key of the stochastic terms of the loss.

    Returns:
      (1/K) Σ_k L_train(w_φ(λ_k), λ_k, batch), a scalar.
    """

    def one(hyperparams: Any, key: jax.Array) -> jax.Array:
        params = hypernet.apply(hypernet_params, hyperparams)
        return problem.train_loss(params, hyperparams, batch, key)

    return jnp.mean(jax.vmap(one)(sampled, jax.random.split(key, inner_loop.count(sampled))))


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
    samples, examples = inner_loop.count(sampled), inner_loop.count(batch)
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

    A state is a `HypernetState`, or any NamedTuple that has its fields and more.

    Attributes:
      init: `init(key, hyperparams) -> HypernetState`.
      train_hypernet: `train_hypernet(key, state, train_batches) -> (state, loss)`: one φ update for
        each training batch, each with fresh λ_1 … λ_K, and the mean of their losses.
      hypergradient: `hypergradient(state, valid_batch) -> (loss, gradient)` at λ̂, through the
        hypernet: dL_valid/dλ = ∂L_valid/∂λ + ∂L_valid/∂w · ∂w_φ/∂λ.
      move_hyperparams: `move_hyperparams(state, gradient, loss) -> state`: one λ̂ update.
      weights: `weights(state) -> params`, w_φ(λ̂).
      weights_at: `weights_at(state, hyperparams, train_batch) -> params`, w_φ(λ) for any λ.
    """

    init: Callable[[Key, Hyperparams], HypernetState]
    train_hypernet: Callable[[Key, Any, Batch], tuple[Any, jax.Array]]
    hypergradient: Callable[[Any, Batch], tuple[jax.Array, Hyperparams]]
    move_hyperparams: Callable[[Any, Hyperparams, jax.Array], Any]
    weights: Callable[[Any], Params]
    weights_at: Callable[[Any, Hyperparams, Batch], Params]


def build(
    function: str,
    problem: Problem,
    hypernet: Hypernet,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    sampler: Sampler,
    samples: int,
    response_loss: ResponseLoss,
) -> Updates:
    """The updates for one unconstrained problem, hypernet, pair of optimizers and p(λ).

    Raises:
      ValueError: if samples, the number K of λ drawn for each φ update, is below 1.
      TypeError: for something that is no problem, hypernet or optimizer.
    """
    validation.hypernet(function, hypernet)
    hypernet_optimizer, hyper_optimizer = validation.optimizer(
        function, hypernet_optimizer=hypernet_optimizer, hyper_optimizer=hyper_optimizer
    )
    validation.whole(function, samples=samples)

    def train_hypernet(key: Key, state: Any, train_batches: Batch) -> tuple[Any, jax.Array]:
        held = problems.with_state(problem, state.model_state)
        first = jax.tree.map(lambda leaf: leaf[0], train_batches)
        require_hypernet_can_train(function, problem, state, hypernet, first, key)

        def update(carry: tuple[Any, Any], inputs: tuple[Any, Key]) -> tuple[Any, jax.Array]:
            hypernet_params, opt_state = carry
            batch, key = inputs
            key_sample, key_loss = jax.random.split(key)
            sampled = jax.vmap(sampler, in_axes=(0, None))(
                jax.random.split(key_sample, samples), state.hyperparams
            )
            sampled = sharding.constrain(sampled, "samples")

            def loss(phi: Params) -> jax.Array:
                return response_loss(held, hypernet, phi, sampled, batch, key_loss)

            value, gradient = jax.value_and_grad(loss)(hypernet_params)
            carry = inner_loop.apply_gradient(
                hypernet_optimizer, gradient, opt_state, hypernet_params, value=value, value_fn=loss
            )
            return carry, value

        carry = state.hypernet_params, state.hypernet_opt_state
        carry, losses = jax.lax.scan(update, carry, inner_loop.inputs(key, train_batches))
        state = state._replace(hypernet_params=carry[0], hypernet_opt_state=carry[1])
        return state, jnp.mean(losses)

    def move_hyperparams(state: Any, gradient: Hyperparams, loss: jax.Array) -> Any:
        hyperparams, opt_state = inner_loop.apply_gradient(
            hyper_optimizer, gradient, state.hyper_opt_state, state.hyperparams, value=loss
        )
        return state._replace(hyperparams=hyperparams, hyper_opt_state=opt_state)

    def weights(state: Any) -> Params:
        return hypernet.apply(state.hypernet_params, state.hyperparams)

    def weights_at(state: Any, hyperparams: Hyperparams, train_batch: Batch) -> Params:
        del train_batch
        return hypernet.apply(state.hypernet_params, hyperparams)

    init = functools.partial(_init, problem, hypernet, hypernet_optimizer, hyper_optimizer)
    hypergradient = functools.partial(_hypergradient, problem, hypernet)
    return Updates(init, train_hypernet, hypergradient, move_hyperparams, weights, weights_at)


def _init(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    key: Key,
    hyperparams: Hyperparams,
) -> HypernetState:
    hyperparams = typed(hyperparams)
    # Folded in, so that a φ drawn as in the paper has the numbers that it had without weights.
    params, model_state = problems.initialize(problem, jax.random.fold_in(key, 1))
    hypernet_params = hypernet.init(key, params, hyperparams)
    return HypernetState(
        hyperparams=hyperparams,
        hypernet_params=hypernet_params,
        hyper_opt_state=hyper_optimizer.init(hyperparams),
        hypernet_opt_state=hypernet_optimizer.init(hypernet_params),
        model_state=model_state,
    )


def _hypergradient(
    problem: Problem, hypernet: Hypernet, state: Any, valid_batch: Batch
) -> tuple[jax.Array, Hyperparams]:
    held = problems.with_state(problem, state.model_state)

    def loss(hyperparams: Hyperparams) -> jax.Array:
        params = hypernet.apply(state.hypernet_params, hyperparams)
        # As a batch of one, for which XLA computes a dense layer's gradient as Gᵀ·X. Alone it
        # becomes Xᵀ·G, which takes a CPU twice as long where the outputs are few.
        weights, point = jax.tree.map(lambda leaf: leaf[None], (params, hyperparams))
        return jax.vmap(held.valid_loss, (0, 0, None))(weights, point, valid_batch)[0]

    return jax.value_and_grad(loss)(state.hyperparams)


def require_hypernet_can_train(
    function: str, problem: Problem, state: Any, hypernet: Hypernet, batch: Batch, key: Key
) -> None:
    """Refuse what a hypernet can't be trained for; read off the trace of the losses.

    That is a loss that reads the model's state, which belongs to the weights of one λ while a
    hypernet makes weights for many; and weights that the training loss never moves, which the
    hypernet would leave at random.

    Raises:
      ValueError: naming what is read, or which weights stand still.
    """
    params = jax.eval_shape(hypernet.apply, state.hypernet_params, state.hyperparams)
    lam = state.hyperparams

    def losses(at: tuple[ModelState, Params]) -> tuple[jax.Array, jax.Array]:
        model_state, weights = at
        train, _ = inner_loop.train_loss(problem, weights, model_state, lam, batch, key)
        return train, inner_loop.valid_loss(problem, weights, model_state, lam, batch)

    read = jaxprs.reads(losses, (state.model_state, params)) if problem.stateful else []
    if any(read[: len(jax.tree.leaves(state.model_state))]):
        raise ValueError(
            f"{function}() makes weights for many λ at once, but the model's state "
            f"({', '.join(map(str, state.model_state))}) belongs to the weights of one. Let "
            "validation use the batch's own statistics, by "
            "supervised(..., eval_kwargs={'use_running_average': False}), or tune by "
            "centered_response(), implicit() or truncated(), which train the weights themselves."
        )

    held = problems.with_state(problem, state.model_state)
    moved = frozen.moved_by_loss(held, params, lam, batch, key)
    each = jax.tree.leaves_with_path(moved)
    named = [jax.tree_util.keystr(path) for path, moves in each if not moves]
    if named:
        raise ValueError(
            f"the training loss never moves the weights {', '.join(named)} (a stop_gradient, or "
            f"they aren't used), so that the hypernet of {function}() would leave them at random. "
            "Keep them out of the params that problem.init returns, or tune by "
            "centered_response(), implicit() or truncated()."
        )


def info(train_loss: jax.Array, valid_loss: jax.Array, gradient: Any, evaluations: int) -> Info:
    """An Info from what the two updates return."""
    return Info(train_loss, valid_loss, optax.tree.norm(gradient), jnp.asarray(evaluations))
