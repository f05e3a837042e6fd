"""A method's own hypergradient beside a converged one, at the weights and λ of a run.

    dL_valid/dλ = ∂L_valid/∂λ − (∂²L_train/∂λ∂w) C⁻¹ ∂L_valid/∂w

is the reference, from all training and all validation examples, by conjugate gradients that have
converged on the curvature C of the training loss. The estimate is what the method moves λ along
after a round of minibatches. Whatever its state and its steps look like inside, that is the
derivative of the λ that it returns in the step size β of gradient descent, at β = 0:

    λ ← λ − β g,    g = −dλ/dβ
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import problem as problems
from shohypernet._internal import convolutions, jaxprs, random, validation
from shohypernet._internal.outputs import Outputs
from shohypernet._internal.trees import by_path
from shohypernet.batches import Data, minibatch
from shohypernet.diagnostics._verdict import Check, compared
from shohypernet.fitting import _checks as checks
from shohypernet.fitting import _plan as plans
from shohypernet.hypergradients import curvature as curvatures
from shohypernet.hypergradients import implicit
from shohypernet.hypergradients.implicit import ImplicitHypergradient
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.linear_solvers import Product, Solution, conjugate_gradient
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Hyperparams, Key, ModelState, Params

Build = Callable[[optax.GradientTransformation], HyperOptimizer]
Estimate = tuple[Hyperparams, Params, ModelState, Info]  # g, and w and the model's state there

_BY_CHANCE = (
    "has to do with what the training loss draws. Its derivative may not be all of its effect (a "
    "rate also decides which units are dropped), so that there is no reference for it."
)


def check(
    problem: Problem,
    build: Build,
    result: Any,
    data: Data,
    *,
    inner_steps: int = 1,
    train_batch_size: int | None = None,
    valid_batch_size: int | None = None,
    draws: int = 4,
    seed: int = 0,
    products: int = 2_000,
    tolerance: float = 1e-3,
    damping: float = 0.0,
) -> Check:
    """Whether a method's hypergradient points the right way, on the user's own problem; `print` it.

    From the run's state a round is made for each draw, at the λ where the run stands, and what the
    method would move λ along is compared with the reference at the very weights after that round.
    The curvature C is the Gauss-Newton one of the model's training loss, or, if that calls no Flax
    module, the Hessian.

    The reference takes the weights for a minimum of the training loss, as all implicit methods do.
    It doesn't see what λ does in an optimizer, nor kinks of `proximal`. Stochastic terms of the
    training loss are drawn once for all training examples, anew for each draw.

    Args:
      problem: as it was tuned, without integers and categories.
      build: the method but for its optimizer of λ, `build(hyper_optimizer) -> HyperOptimizer`. (Not
        `hoag`, which has none; it is implicit differentiation with conjugate gradients itself.)
      result: a `Result` of one seed, or a state of the method.
      data: the splits of the run.
      inner_steps: as of the run, like both batch sizes; see `fit`.
      train_batch_size: likewise.
      valid_batch_size: likewise.
      draws: rounds that are compared, each from the same state with minibatches of its own.
      seed: of the draws.
      products: number of products with C in a reference, at most.
      tolerance: ‖C x − b‖₂ / ‖b‖₂ at which a reference has converged. If one hasn't, there is no
        verdict.
      damping: δ, added to C in the reference, in units of the curvature.

    Returns:
      Cosines and lengths, whole and by leaf of λ, with a verdict in words.

    Raises:
      TypeError: for a method where its builder belongs, or something that is no problem.
      ValueError: for a result of several seeds or without a state, bad sizes, a method that doesn't
        move λ by the optimizer that it was given, or doesn't yet, or λ that has no reference.
    """
    validation.whole("check", least=2, draws=draws)
    validation.whole("check", products=products, inner_steps=inner_steps)
    validation.positive("check", tolerance=tolerance)
    validation.not_negative("check", damping=damping)
    method = _built(problem, build)
    state = _state_of(result, method)
    data = plans.splits(data, "check")
    problems.require_readable(problem, data)
    sizes = inner_steps, train_batch_size, valid_batch_size
    validation.require(
        not method.whole_batches or sizes[1:] == (None, None),
        "the method draws its minibatches by itself; call check() without batch sizes.",
    )

    estimate = jax.jit(functools.partial(_estimate, build, sizes))
    keys = jax.random.split(random.key(seed), (draws, 2))
    estimates: list[Estimate] = [estimate(state, data, key) for key in keys[:, 0]]
    _require_moved(estimates)
    inner, params = unconstrained(problem), method.weights(state)
    trainable = _trainable(params, [each[1] for each in estimates])

    refer = jax.jit(functools.partial(_reference, inner, (products, tolerance, damping), trainable))
    references: list[ImplicitHypergradient] = [
        refer(state.hyperparams, each[1], each[2], data, key)
        for each, key in zip(estimates, keys[:, 1], strict=True)
    ]
    return compared(
        [by_path(np.asarray, each[0]) for each in estimates],
        [by_path(np.asarray, each.gradient) for each in references],
        left_out=_left_out(inner, state.hyperparams, estimates[0], data, keys[0, 1]),
        residuals=np.array([each.residual for each in references]),
        tolerance=tolerance,
        evaluations=(
            sum(int(each[3].gradient_evaluations) for each in estimates),
            sum(int(each.gradient_evaluations) for each in references),
        ),
    )


def _built(problem: Problem, build: Build) -> HyperOptimizer:
    if callable(build) and not isinstance(build, HyperOptimizer):
        method = build(_descent(0.0))
        checks.require_match(problem, method)
        return method
    raise TypeError(
        "check() needs the method's builder, a function of the optimizer of λ, such as lambda "
        "hyper_optimizer: shn.centered_response(problem, jacobian, optimizer=..., "
        f"hyper_optimizer=hyper_optimizer); got a {type(build).__name__}."
    )


def _state_of(result: Any, method: HyperOptimizer) -> Any:
    state = result
    if hasattr(result, "state") and hasattr(result, "seeds"):
        validation.require(
            not isinstance(result.seeds, tuple),
            f"check() needs a result of one seed, got {result.seeds}: take result.seed(i).",
        )
        state = result.state
    validation.require(
        hasattr(state, "hyperparams"),
        "check() needs a result with the method's state, which files don't keep; give it the "
        f"result of fit() itself, got {type(state).__name__}.",
    )
    validation.require(
        not bool(method.waiting(state)), "the method doesn't move λ yet: its first phase goes on."
    )
    return state


def _descent(step_size: Any) -> optax.GradientTransformation:
    """λ ← λ − β g; any other optimizer's state passes through it unread."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda g: (-step_size * g).astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _estimate(build: Build, sizes: tuple[Any, ...], state: Any, data: Data, key: Key) -> Estimate:
    """The method's hypergradient in a round, with the weights that it is of."""
    inner_steps, train_size, valid_size = sizes
    key_train, key_valid, key_step = jax.random.split(key, 3)
    if train_size is None:
        train_batches = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (inner_steps, *leaf.shape)), data.train
        )
    else:
        train_batches = minibatch(key_train, data.train, (inner_steps, train_size))
    valid_batch = minibatch(key_valid, data.valid, valid_size)

    def moved(step_size: Any) -> tuple[Hyperparams, Any]:
        method = build(_descent(step_size))
        with convolutions.as_products():
            after, info = method.step(key_step, state, train_batches, valid_batch)
        return after.hyperparams, (method.weights(after), method.model_state(after), info)

    _, slope, (params, model_state, info) = jax.jvp(moved, (0.0,), (1.0,), has_aux=True)
    return optax.tree.scale(-1, slope), params, model_state, info


def _reference(
    problem: Problem,
    sizes: tuple[int, float, float],
    trainable: Params | None,
    hyperparams: Hyperparams,
    params: Params,
    model_state: ModelState,
    data: Data,
    key: Key,
) -> ImplicitHypergradient:
    """The converged hypergradient; its residual is NaN where C isn't positive definite."""
    products, tolerance, damping = sizes

    def solver(product: Product, target: Params, key: Key | None = None) -> Solution:
        enough = tolerance / 2 * optax.tree.norm(target)  # rounding adds to what the solver sees
        solved = conjugate_gradient(products, tolerance=enough)(product, target)
        poisoned = optax.tree.full_like(solved.value, jnp.nan)
        return solved._replace(value=optax.tree.where(solved.convex, solved.value, poisoned))

    held = problems.with_state(problem, model_state)
    with convolutions.as_products():
        try:
            jax.eval_shape(Outputs(held, hyperparams, data.train, key).at, params)
            curvature = curvatures.gauss_newton_of(held)
        except ValueError:  # no Flax module
            curvature = curvatures.hessian(held)
        return implicit.hypergradient(
            held,
            hyperparams,
            params,
            data.train,
            data.valid,
            key,
            solver=solver,
            curvature=curvature,
            damping=damping,
            trainable=trainable,
        )


def _require_moved(estimates: list[Estimate]) -> None:
    still = not any(np.any(leaf) for each in estimates for leaf in jax.tree.leaves(each[0]))
    if still and any(float(each[3].hypergradient_norm) > 0 for each in estimates):
        raise ValueError(
            "the method has a hypergradient but doesn't move λ by the optimizer that check() gave "
            "to build(): pass it on, as hyper_optimizer=hyper_optimizer."
        )


def _trainable(before: Params, after: list[Params]) -> Params | None:
    """Which weights aren't frozen, by whatever: those that rounds move, if they move any."""
    moved = jax.tree.map(
        lambda a, *others: any(bool(jnp.any(a != b)) for b in others), before, *after
    )
    return moved if any(jax.tree.leaves(moved)) else None


def _left_out(
    problem: Problem, hyperparams: Hyperparams, estimate: Estimate, data: Data, key: Key
) -> dict[str, str]:
    """Leaves of λ for which the reference says nothing, by construction, each with the reason."""
    _, params, model_state, _ = estimate
    held = problems.with_state(problem, model_state)

    def slopes(key: Key, params: Params, hyperparams: Hyperparams) -> Any:
        train = jax.grad(held.train_loss, 1)(params, hyperparams, data.train, key)
        return train, jax.grad(held.valid_loss, 1)(params, hyperparams, data.valid)

    names = list(by_path(np.shape, hyperparams))
    zero = np.reshape(jaxprs.zeros(slopes, key, params, hyperparams), (2, -1)).all(0)
    reads = jaxprs.dependence(slopes, key, params, hyperparams)
    chance = [row[0] for row in reads[: len(names)]]
    why = np.where(zero, "has no derivative in either loss.", np.where(chance, _BY_CHANCE, ""))
    return {name: str(reason) for name, reason in zip(names, why, strict=True) if reason}
