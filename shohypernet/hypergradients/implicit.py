"""Implicit differentiation: the hypergradient at a minimum of the training loss.

    dL_valid/dλ = ∂L_valid/∂λ − (∂²L_train/∂λ∂w) C⁻¹ ∂L_valid/∂w,    C ≈ ∂²L_train/∂w² + δI

It follows from ∂L_train/∂w (w*(λ), λ) = 0 by the implicit function theorem, so how the minimum was
found doesn't matter, and the inner optimizer's settings can't be tuned. With a penalty that isn't
smooth (`proximal`) weights of 0 don't respond, and all of this is done in the others: Feng and
Simon (2018), arXiv:1703.09813; Bertrand et al. (2020), arXiv:2002.08943. The methods differ in how
they solve with C (see `linear_solvers`):

    conjugate gradients   Foo et al. (2008); Rajeswaran et al. (2019), arXiv:1909.04630
    Neumann series        Lorraine et al. (2019), arXiv:1911.02590, Algorithms 1 to 3
    identity, T1 − T2     Luketina et al. (2016), arXiv:1511.06727
    Nyström               Hataya and Yamada (2023), arXiv:2302.09726
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop, proximal
from shohypernet import problem as problems
from shohypernet._internal import frozen, validation
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import curvature as curvatures
from shohypernet.hypergradients._restarts import Hypergradient
from shohypernet.hypergradients.curvature import Curvature
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.inner_loop import TrainState
from shohypernet.linear_solvers import Solver
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


class ImplicitHypergradient(NamedTuple):
    """A hypergradient by implicit differentiation.

    Attributes:
      gradient: the estimated dL_valid/dλ, a tree like λ.
      adjoint: the approximate C⁻¹ ∂L_valid/∂w, a tree like the weights.
      residual: ‖C x − b‖₂ / ‖b‖₂ of that solution x, scalar. It takes one more product, which a
        compiled program that doesn't read it leaves out.
      valid_loss: L_valid at the weights, scalar.
      gradient_evaluations: what it took, a number or a scalar array.
    """

    gradient: Any
    adjoint: Any
    residual: jax.Array
    valid_loss: jax.Array
    gradient_evaluations: Any


def hypergradient(
    problem: Problem,
    hyperparams: Hyperparams,
    params: Params,
    train_batch: Batch,
    valid_batch: Batch,
    key: Key,
    *,
    solver: Solver,
    curvature: Curvature | None = None,
    damping: float = 0.0,
    trainable: Params | None = None,
    support: Params | None = None,
) -> ImplicitHypergradient:
    """dL_valid/dλ at weights that are taken for the best response.

    Args:
      problem: gives both losses; without model state (see `problem.with_state`).
      hyperparams: λ, as the losses of `problem` read it.
      params: w, near a minimum of L_train(·, λ).
      train_batch: the training examples of C and of the mixed derivative: all of them, or a
        minibatch, whose noise then is in every product.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss, and of the solver's.
      solver: how to solve with C, from `linear_solvers`.
      curvature: C, from `curvature`; the Hessian if None.
      damping: δ, in units of the curvature.
      trainable: which weights training moves, a tree of booleans like w; the others are held where
        they are. If None, all but those that the training loss has no gradient for.
      support: which entries of the weights respond to λ, a tree of boolean arrays like w, such as
        `proximal.support(params)`; the others are held where they are. If None, all.

    Returns:
      The estimate, which takes 2 + 2K gradient evaluations with K products: one for each loss, and
      two a product.
    """
    moved = frozen.moved_by_loss(problem, params, hyperparams, train_batch, key)
    if trainable is not None:
        moved = jax.tree.map(lambda a, b: a and b, moved, trainable)
    valid_loss, (through_weights, direct) = jax.value_and_grad(problem.valid_loss, (0, 1))(
        params, hyperparams, valid_batch
    )
    curvature = curvatures.hessian(problem) if curvature is None else curvature
    full = curvatures.damped(curvature(params, hyperparams, train_batch, key), damping)
    still = optax.tree.zeros_like(params)

    def on_support(vector: Params) -> Params:
        return vector if support is None else jax.tree.map(jnp.where, support, vector, still)

    def product(vector: Params) -> Params:
        image = full(on_support(problems.merge(vector, still, moved)))
        return problems.select(on_support(image), moved)

    target = problems.select(on_support(through_weights), moved)
    solved, products = solver(product, target, jax.random.fold_in(key, 0))[:2]
    size = optax.tree.norm(target)
    missed = optax.tree.norm(optax.tree.sub(product(solved), target))
    residual = missed / jnp.where(size > 0, size, 1)
    adjoint = problems.merge(solved, still, moved)
    through = curvatures.cross_product(problem, params, hyperparams, train_batch, key, adjoint)
    return ImplicitHypergradient(
        optax.tree.sub(direct, through), adjoint, residual, valid_loss, 2 + 2 * products
    )


def implicit(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation | proximal.ProximalGradient,
    hyper_optimizer: optax.GradientTransformation,
    solver: Solver,
    curvature: Curvature | None = None,
    damping: float = 0.0,
) -> HyperOptimizer:
    """Training that goes on from round to round, with an implicit hypergradient after each.

    The last training batch of the round serves the products: with minibatches the gradient is
    stochastic, as in Lorraine et al., and with whole-set batches it is not.

    Args:
      problem: the bilevel problem.
      optimizer: any optax optimizer of the weights; or `proximal.gradient(…)`, with which only
        weights that aren't 0 respond to λ.
      hyper_optimizer: for λ.
      solver: `linear_solvers.conjugate_gradient(steps)`, `neumann(terms, step_size)`,
        `nystrom(rank, damping=ρ)`, or `identity()` for T1 − T2.
      curvature: `curvature.gauss_newton(…)`; the Hessian if None.
      damping: δ, in units of the curvature.

    Returns:
      A HyperOptimizer whose round takes T + 2 + 2K gradient evaluations, for T inner steps and K
      products of the solver.

    Raises:
      ValueError: if the damping is negative.
      TypeError: if optimizer is a function of λ, which this can't tune, or something else that is
        no problem or optimizer.
    """
    with_kinks = isinstance(optimizer, proximal.ProximalGradient)
    inner, optimizer, hyper_optimizer = restarts.parts(
        "implicit", problem, optimizer, hyper_optimizer, function_of_hyperparams=with_kinks
    )
    validation.not_negative("implicit", damping=damping)

    def estimate(
        hyperparams: Hyperparams,
        state: TrainState,
        train_batches: Batch,
        valid_batch: Batch,
        key: Key,
    ) -> Hypergradient:
        key_train, key_products = jax.random.split(key)
        end, losses = inner_loop.train_steps(
            inner, optimizer, state, hyperparams, train_batches, key_train
        )
        at = inner_loop.optimizer_at(optimizer, hyperparams)
        made = hypergradient(
            problems.with_state(inner, end.model_state),
            hyperparams,
            end.params,
            jax.tree.map(lambda leaf: leaf[-1], train_batches),
            valid_batch,
            key_products,
            solver=solver,
            curvature=curvature,
            damping=damping,
            trainable=frozen.moved_by_optimizer(at, end.params),
            support=proximal.support(end.params) if with_kinks else None,
        )
        evaluations = len(losses) + made.gradient_evaluations
        return Hypergradient(made.gradient, end, jnp.mean(losses), made.valid_loss, evaluations)

    return restarts.warm_start(restarts.start(inner, optimizer), estimate, hyper_optimizer, problem)
