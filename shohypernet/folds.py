"""K-fold cross-validation in one run: weights of each fold, one λ, and every example validates.

    L(λ) = 1/K Σ_k L_valid(w_k*(λ); fold k),    w_k*(λ) = argmin_w L_train(w, λ; the other folds)

All folds train side by side and give one hypergradient, their mean. It costs as much as K runs.

Feng and Simon (2018), arXiv:1703.09813, tune penalties so, with exact weights of each fold.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet._internal import validation
from shohypernet.batches import Data, rows
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params

_AXIS = "folds"


class FoldsState(NamedTuple):
    """State of a method on several folds.

    Attributes:
      hyperparams: λ̂, unconstrained.
      each: state of the method on each fold, with the same λ̂; leaves lead with the fold axis.
    """

    hyperparams: Hyperparams
    each: Any


@dataclasses.dataclass(frozen=True)
class Folds:
    """A problem on several folds; see `cross_validation`.

    Attributes:
      problem: its weights (and model state) lead with the fold axis, and its batches have folds on
        their second axis; its training loss is the sum over folds, so that each fold's weights have
        the gradient that they have alone, and its validation loss and metrics are means.
      one: the problem of one fold.
      count: K.
    """

    problem: Problem
    one: Problem
    count: int

    def split(self, examples: Batch, test: Batch | None = None) -> Data:
        """Examples in folds: example i validates in fold i mod K, and trains in all others.

        The last n mod K examples validate nowhere, and train in all folds. Sorted examples so have
        all labels in each fold, and those of one patient, if they lie together, do not stay in
        one: put them in an order of your own before.

        Args:
          examples: tree of arrays with a shared leading axis of n examples, training and validation
            ones together.
          test: examples to report on, on which all folds' weights are tried.

        Returns:
          `Data` for `problem`, leaves (examples of a fold, K, …). Training examples take K − 1
          times the memory of all examples, and test examples K times.

        Raises:
          ValueError: for fewer examples than folds.
        """
        count = rows(examples)
        if count < self.count:
            raise ValueError(f"{self.count} folds need as many examples at least, got {count}.")
        held = np.arange(count - count % self.count).reshape(-1, self.count)
        kept = np.stack([np.setdiff1d(np.arange(count), each) for each in held.T], axis=1)
        train, valid = (
            jax.tree.map(lambda leaf, at=at: jnp.asarray(leaf)[at], examples) for at in (kept, held)
        )

        def on_all(leaf: Any) -> jax.Array:
            leaf = jnp.asarray(leaf)[:, None]
            return jnp.repeat(leaf, self.count, axis=1)

        return Data(train, valid, jax.tree.map(on_all, test))

    def method(
        self,
        build: Callable[[optax.GradientTransformation], HyperOptimizer],
        hyper_optimizer: optax.GradientTransformation,
    ) -> HyperOptimizer:
        """A method that was made for one fold, on all of them, with one λ̂.

            g = 1/K Σ_k g_k,    λ̂ ← hyper_optimizer(λ̂, g)

        It treats each fold's weights as if they were alone: so it serves methods that look at a
        model's layers, such as `centered_response` with `jacobians.kronecker`, and optimizers that
        look at all weights at once, such as those that clip by the global norm.

            method = folds.method(
                lambda hyper_optimizer: shn.implicit(
                    problem, optimizer=optax.adam(1e-3), hyper_optimizer=hyper_optimizer
                ),
                optax.adam(3e-2),
            )

        Args:
          build: makes the method of the problem of one fold from the optimizer of λ.
          hyper_optimizer: the optimizer of λ.

        Returns:
          A method of `self.problem`. A step counts the gradient evaluations of all folds.

        Raises:
          ValueError: for a method of another problem.
          TypeError: for something that is no method.
        """
        (inner,) = validation.optimizer("method", hyper_optimizer=hyper_optimizer)
        built = build(optax.chain(_mean_over_folds(), inner))
        if not isinstance(built, HyperOptimizer):
            raise TypeError(
                "Folds.method() needs a function from an optimizer of λ to a method, such as "
                f"lambda optimizer: shn.implicit(...); it returned {type(built).__name__}."
            )
        if built.problem and built.problem.train_loss is not self.one.train_loss:
            raise ValueError(
                "Folds.method() needs a method of the problem that cross_validation() was given; "
                "one of folds.problem goes to fit() as it is."
            )
        return _on_folds(self.problem, built, self.count)


def cross_validation(problem: Problem, folds: int = 5) -> Folds:
    """A problem on K folds of the examples, each with weights of its own.

        folds = shn.cross_validation(problem, 5)
        data = folds.split(examples, test)
        result = shn.fit(folds.problem, folds.method(build, optax.adam(3e-2)), data, start, ...)
        final = shn.retrain(problem, result, ...)

    Gradient methods that read nothing but the losses, and all searches, take `folds.problem` as
    they take any other; `folds.method` makes others ready for it.

    A penalty is worth what it is worth beside a mean over (K − 1)/K of the examples. Whoever trains
    on all of them, and takes weight decays for the prior of a weight, multiplies by (K − 1)/K.

    Args:
      problem: of one data set.
      folds: K, 2 or more.

    Raises:
      ValueError: for fewer than 2 folds.
      TypeError: for something that is no problem.
    """
    one = validation.problem(problem, "cross_validation()")
    validation.whole("cross_validation", least=2, folds=folds)

    def init(key: Key) -> Any:
        return jax.vmap(one.init)(jax.random.split(key, folds))

    def train_loss(
        params: Params, hyperparams: Hyperparams, batch: Batch, key: Key, *model_state: Any
    ) -> Any:
        axes = (0, None, 1, 0) + (0,) * len(model_state)
        keys = jax.random.split(key, folds)
        found = jax.vmap(one.train_loss, axes)(params, hyperparams, batch, keys, *model_state)
        return (jnp.sum(found[0]), found[1]) if one.stateful else jnp.sum(found)

    def on_average(loss: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        def averaged(params: Params, hyperparams: Hyperparams, batch: Batch, *state: Any) -> Any:
            axes = (0, None, 1) + (0,) * len(state)
            return jnp.mean(jax.vmap(loss, axes)(params, hyperparams, batch, *state))

        return averaged

    def check(examples: Batch) -> None:
        assert one.check is not None
        one.check(jax.tree.map(lambda leaf: leaf[:, 0], examples))

    several = one._replace(
        init=init,
        train_loss=train_loss,
        valid_loss=on_average(one.valid_loss),
        metrics={name: on_average(each) for name, each in (one.metrics or {}).items()} or None,
        check=check if one.check else None,
        folds=folds,
    )
    return Folds(several, one, folds)


def _mean_over_folds() -> optax.GradientTransformation:
    """An optax transformation to the mean over the folds that a step is mapped over."""
    return optax.stateless(lambda updates, params: jax.lax.pmean(updates, _AXIS))


def _on_folds(problem: Problem, built: HyperOptimizer, count: int) -> HyperOptimizer:
    """A method of one fold, mapped over folds; its optimizer of λ takes the mean over them."""

    def init(key: Key, hyperparams: Hyperparams) -> FoldsState:
        keys = jax.random.split(key, count)
        each = jax.vmap(built.init, (0, None), axis_name=_AXIS)(keys, hyperparams)
        return FoldsState(hyperparams, each)

    def step(
        key: Key, state: FoldsState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[FoldsState, Info]:
        keys = jax.random.split(key, count)
        mapped = jax.vmap(built.step, (0, 0, 2, 1), axis_name=_AXIS)
        each, info = mapped(keys, state.each, train_batches, valid_batch)
        hyperparams = jax.tree.map(lambda leaf: leaf[0], each.hyperparams)
        means = jax.tree.map(jnp.mean, info)
        evaluations = jnp.sum(info.gradient_evaluations)
        return FoldsState(hyperparams, each), means._replace(gradient_evaluations=evaluations)

    def weights_at(state: FoldsState, hyperparams: Hyperparams, train_batch: Batch) -> Params:
        assert built.weights_at is not None
        return jax.vmap(built.weights_at, (0, None, 1))(state.each, hyperparams, train_batch)

    return HyperOptimizer(
        init,
        step,
        weights=lambda state: jax.vmap(built.weights)(state.each),
        model_state=lambda state: jax.vmap(built.model_state)(state.each),
        problem=problem,
        whole_batches=built.whole_batches,
        waiting=lambda state: jnp.all(jnp.atleast_1d(built.waiting(state.each)), axis=-1),
        rejected=lambda state: jnp.sum(jnp.atleast_1d(built.rejected(state.each)), axis=-1),
        weights_at=weights_at if built.weights_at else None,
    )
