"""Algorithm 3 with a centered hypernet: weights trained at λ̂, and a Jacobian to move λ̂ along.

    w_φ(λ) = w₀ + J_φ (λ − λ̂)
    w₀ ← w₀ − α ∇_w L_train(w₀, λ̂, x)                        for each training batch
    J_φ learns                                               from the same batches
    λ̂ ← λ̂ − β [∂L_valid/∂λ + J_φᵀ ∂L_valid/∂w (w₀, x′)]       once

At λ̂ itself the hypernet's weights are w₀, trained without sampling noise and with a step size of
their own, while J_φ has only the local slope of the best response to model.

Algorithm 3: Lorraine and Duvenaud (2018), arXiv:1802.09419. Centering: Bae and Grosse (2020),
"Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians",
arXiv:2010.13514.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.jacobians import Point, ResponseJacobian
from shohypernet.problem import Problem


class State(NamedTuple):
    """What the next step needs.

    Attributes:
      hyperparams: λ̂, unconstrained.
      params: w₀.
      jacobian_params: φ, what J is made from.
      hyper_opt_state: the optimizer of λ̂.
      opt_state: the optimizer of w₀.
    """

    hyperparams: Any
    params: Any
    jacobian_params: Any
    hyper_opt_state: Any
    opt_state: Any


def centered_response(
    problem: Problem,
    jacobian: ResponseJacobian,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Hyper-training with separate models of the weights and of how they respond.

    Args:
      problem: what is tuned.
      jacobian: the model of ∂w*/∂λ, such as `jacobians.kronecker(problem)`.
      optimizer: α, for w₀: whatever trains this model well at fixed λ.
      hyper_optimizer: β, for λ̂.

    Returns:
      A HyperOptimizer whose round takes inner steps + 1 gradient evaluations, and those of the
      Jacobian.

    Reference:
      Algorithm 3 of arXiv:1802.09419, with the hypernet of arXiv:2010.13514.
    """

    def init(key: jax.Array, hyperparams: Any) -> State:
        key_params, key_jacobian = jax.random.split(key)
        # A dtype of its own, not a Python number's weak one, which the first step would change.
        hyperparams = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), hyperparams)
        params = problem.init(key_params)
        return State(
            hyperparams=hyperparams,
            params=params,
            jacobian_params=jacobian.init(key_jacobian, params, hyperparams),
            hyper_opt_state=hyper_optimizer.init(hyperparams),
            opt_state=optimizer.init(params),
        )

    def step(
        key: jax.Array, state: State, train_batches: Any, valid_batch: Any
    ) -> tuple[State, Info]:
        key_train, key_jacobian, key_point = jax.random.split(key, 3)
        hyperparams = state.hyperparams

        def train(carry: tuple[Any, Any], at: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            params, opt_state = carry
            loss, gradient = jax.value_and_grad(problem.train_loss)(params, hyperparams, *at)
            change, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, change), opt_state), loss

        inner_steps = jax.tree.leaves(train_batches)[0].shape[0]
        (params, opt_state), losses = jax.lax.scan(
            train,
            (state.params, state.opt_state),
            (train_batches, jax.random.split(key_train, inner_steps)),
        )
        jacobian_params, learning = jacobian.learn(
            key_jacobian, state.jacobian_params, params, hyperparams, train_batches
        )

        valid_loss, (through_weights, direct) = jax.value_and_grad(problem.valid_loss, (0, 1))(
            params, hyperparams, valid_batch
        )
        last_batch = jax.tree.map(lambda leaf: leaf[-1], train_batches)
        point = Point(params, hyperparams, last_batch, key_point)
        through = jacobian.vjp(jacobian_params, point, through_weights)
        gradient = optax.tree.add(direct, through)
        change, hyper_opt_state = hyper_optimizer.update(
            gradient, state.hyper_opt_state, hyperparams
        )
        state = State(
            optax.apply_updates(hyperparams, change),
            params,
            jacobian_params,
            hyper_opt_state,
            opt_state,
        )
        evaluations = inner_steps + 1 + jacobian.vjp_evaluations + learning
        norm = optax.tree.norm(gradient)
        return state, Info(jnp.mean(losses), valid_loss, norm, jnp.asarray(evaluations, jnp.int32))

    return HyperOptimizer(init, step, lambda state: state.params)
