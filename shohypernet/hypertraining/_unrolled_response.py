"""Algorithm 3 with a few steps of training behind the hypernet, and the hypergradient through them.

    λ_k ~ p(λ | λ̂);  φ ← φ − α ∇_φ (1/K) Σ_k L_train(w_φ(λ_k), λ_k, x)    for each training batch
    w(λ) = Φ_S(… Φ_1(w_φ(λ), λ) …, λ)                                     S steps from w_φ(λ)
    λ̂ ← λ̂ − β ∇_λ̂ L_valid(w(λ̂), x′)                                      once

Φ_s is a step of any optax optimizer on L_train(·, λ, x_s). The steps take away what the hypernet
gets wrong about the weights, fastest where the curvature is high, and their own dependence on λ
makes up for what it gets wrong about their response. Without steps this is `local_response`.

Lorraine and Duvenaud (2018), "Stochastic Hyperparameter Optimization through Hypernetworks",
arXiv:1802.09419, which names it as future work.
"""

from operator import attrgetter
from typing import NamedTuple

import jax
import optax

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import validation
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import _updates as updates
from shohypernet.hypertraining._updates import ResponseLoss
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem, unconstrained
from shohypernet.samplers import Sampler
from shohypernet.types import Batch, Hyperparams, Key, ModelState, OptState, Params


class UnrolledResponseState(NamedTuple):
    """State of `unrolled_response`: the fields of `HypernetState`, and those of the steps.

    Attributes:
      hyperparams: λ̂, unconstrained.
      hypernet_params: φ.
      hyper_opt_state: state of the optimizer of λ̂.
      hypernet_opt_state: state of the optimizer of φ.
      model_state: the model's, which no loss may read.
      opt_state: state of the steps' optimizer before the first of them, the same in every round.
      params: w(λ̂) of the last round, at λ̂ before its update; w_φ(λ̂) before the first.
    """

    hyperparams: Hyperparams
    hypernet_params: Params
    hyper_opt_state: OptState
    hypernet_opt_state: OptState
    model_state: ModelState
    opt_state: OptState
    params: Params


def unrolled_response(
    problem: Problem,
    hypernet: Hypernet,
    *,
    optimizer: optax.GradientTransformation,
    unrolled_steps: int,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    sampler: Sampler,
    samples: int = 2,
    response_loss: ResponseLoss = updates.shared_minibatch,
) -> HyperOptimizer:
    """Hyper-training whose weights are a hypernet's after some steps of training.

    Args:
      problem: the bilevel problem.
      hypernet: the model of the best response.
      optimizer: of the steps from the hypernet's weights, with a fresh state in every round.
      unrolled_steps: S, at most the inner steps T of a round, whose last S batches they see again.
      hypernet_optimizer: α, for φ.
      hyper_optimizer: β, for λ̂.
      sampler: p(λ | λ̂), usually `samplers.local_gaussian(scale)`.
      samples: K, sampled λ for each φ update.
      response_loss: whether the λ of one update share a minibatch, or each see a slice of it.

    Returns:
      A HyperOptimizer whose round takes K T + 3 S + 1 gradient evaluations: going back through a
      step costs a Hessian-vector product, counted as two.

    Raises:
      ValueError: if samples or unrolled_steps is below 1, or a round has fewer inner steps.
      TypeError: for something that is no problem, hypernet or optimizer.

    Reference:
      Lorraine and Duvenaud (2018), arXiv:1802.09419, on future work.
    """
    inner = unconstrained(problem)
    (optimizer,) = validation.optimizer("unrolled_response", optimizer=optimizer)
    validation.whole("unrolled_response", unrolled_steps=unrolled_steps)
    optimizers = hypernet_optimizer, hyper_optimizer
    parts = updates.build(
        "unrolled_response", inner, hypernet, *optimizers, sampler, samples, response_loss
    )

    def init(key: Key, hyperparams: Hyperparams) -> UnrolledResponseState:
        state = parts.init(key, hyperparams)
        params = parts.weights(state)
        return UnrolledResponseState(*state, opt_state=optimizer.init(params), params=params)

    def step(
        key: Key, state: UnrolledResponseState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[UnrolledResponseState, Info]:
        steps = inner_loop.count(train_batches)
        if steps < unrolled_steps:
            raise ValueError(
                f"unrolled_response() takes {unrolled_steps} steps with a round's last batches, "
                f"but the round has {steps} inner steps; give it fewer unrolled_steps or more "
                "inner_steps."
            )
        key_hypernet, key_steps = jax.random.split(key)
        state, train_loss = parts.train_hypernet(key_hypernet, state, train_batches)
        held = problems.with_state(inner, state.model_state)
        last = jax.tree.map(lambda leaf: leaf[steps - unrolled_steps :], train_batches)

        def outer(hyperparams: Hyperparams) -> tuple[jax.Array, Params]:
            start = TrainState(hypernet.apply(state.hypernet_params, hyperparams), state.opt_state)
            end, _ = inner_loop.train_steps(held, optimizer, start, hyperparams, last, key_steps)
            return held.valid_loss(end.params, hyperparams, valid_batch), end.params

        (valid_loss, params), gradient = jax.value_and_grad(outer, has_aux=True)(state.hyperparams)
        state = parts.move_hyperparams(state, gradient, valid_loss)._replace(params=params)
        evaluations = samples * steps + 3 * unrolled_steps + 1
        return state, updates.info(train_loss, valid_loss, gradient, evaluations)

    return HyperOptimizer(init, step, attrgetter("params"), attrgetter("model_state"), problem)
