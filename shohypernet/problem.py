"""The bilevel problem: choose λ to minimize L_valid(w*(λ)), w*(λ) = argmin_w L_train(w, λ).

A `Problem` is three pure functions and the space that λ lives in. Its losses read hyperparameters
in natural units. Methods move unconstrained ones: they work on `unconstrained(problem)`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.sources import Source
from shohypernet.types import Hyperparams, Key, ModelState, Params, Space, TrainLoss, ValidLoss


class Problem(NamedTuple):
    """A bilevel problem.

    Attributes:
      init: `init(key) -> params`, fresh elementary weights w; `(params, model_state)` if
        `stateful`.
      train_loss: `train_loss(params, hyperparams, batch, key) -> scalar`, the inner objective
        L_train(w, λ) = E_x[L_pred(x, w)] + L_reg(w, λ) on one minibatch, with λ in natural units;
        `key` is the PRNG key of its stochastic terms (dropout, augmentation). If `stateful` it
        takes `model_state` last and returns `(scalar, model_state)`.
      valid_loss: `valid_loss(params, hyperparams, batch) -> scalar`, the outer objective
        L_valid(w), without penalty or noise; it may ignore the hyperparameters. If `stateful` it
        takes `model_state` last.
      space: specs from `hyperparameters`, a prefix of the hyperparameters' tree.
      stateful: whether the model keeps state besides its weights, such as batch statistics.
      start: hyperparameters to start from, in natural units, if the problem knows any.
      metrics: more to be told at each evaluation, by name, such as an accuracy: functions with the
        arguments of `valid_loss`, which return a scalar. Nothing is chosen by them.
      check: `check(examples)`, raises ValueError for examples that the losses would misread.
      folds: how many folds' weights are trained side by side, of each of which every row of a split
        has an example (`cross_validation`).
    """

    init: Callable[[Key], Any]
    train_loss: TrainLoss
    valid_loss: ValidLoss
    space: Space = hp.UNCONSTRAINED
    stateful: bool = False
    start: Any = None
    metrics: Mapping[str, ValidLoss] | None = None
    check: Callable[[Any], None] | None = None
    folds: int = 1


def require_readable(problem: Problem, data: Any) -> None:
    """Refuse splits of examples that a problem's losses would misread.

    Raises:
      ValueError: naming the split.
    """
    if problem.check is None:
        return
    for name, examples in data._asdict().items():
        if examples is None or isinstance(examples, Source):
            continue
        try:
            problem.check(examples)
        except ValueError as error:
            raise ValueError(f"data.{name} can't be learned from: {error}") from None


def initialize(problem: Problem, key: Key) -> tuple[Params, ModelState]:
    """Fresh weights and model state, `()` if the problem has none."""
    return problem.init(key) if problem.stateful else (problem.init(key), ())


def start_of(problem: Problem, hyperparams: Any, function: str) -> Any:
    """Given hyperparameters, or those that the problem starts from.

    Raises:
      ValueError: if there are neither.
    """
    if hyperparams is None and problem.start is None:
        raise ValueError(
            f"{function}() needs hyperparameters to start from, in natural units; only a problem "
            "with supervised(regularizers=...) knows its own."
        )
    return problem.start if hyperparams is None else hyperparams


def param_shapes(problem: Problem) -> Params:
    """Shapes and dtypes of a problem's weights, as `jax.ShapeDtypeStruct`s."""
    return jax.eval_shape(lambda key: initialize(problem, key)[0], jax.random.key(0))


def unconstrained(problem: Problem) -> Problem:
    """The same problem with λ unconstrained, as gradient methods move it.

    Raises:
      ValueError: if the problem's space holds an integer or a category, which no gradient moves.
    """
    problem = validation.problem(problem)
    hp.require_differentiable(problem.space)
    return relaxed(problem)


def relaxed(problem: Problem) -> Problem:
    """The same problem with λ in unconstrained codes, integers and categories included."""
    if problem.space is hp.UNCONSTRAINED:
        return problem
    space = problem.space

    def train_loss(params: Params, hyperparams: Hyperparams, *rest: Any) -> Any:
        return problem.train_loss(params, hp.decode(space, hyperparams), *rest)

    return problem._replace(
        train_loss=train_loss,
        valid_loss=_relaxed(problem.valid_loss, space),
        space=hp.UNCONSTRAINED,
        metrics={name: _relaxed(metric, space) for name, metric in (problem.metrics or {}).items()},
    )


def _relaxed(loss: ValidLoss, space: Space) -> ValidLoss:
    """A loss or metric that reads λ in unconstrained codes."""

    def relaxed(params: Params, hyperparams: Hyperparams, *rest: Any) -> jax.Array:
        return loss(params, hp.decode(space, hyperparams), *rest)

    return relaxed


def with_state(problem: Problem, model_state: ModelState) -> Problem:
    """The same problem with the model's state held constant, for derivatives in w and λ alone."""
    if not problem.stateful:
        return problem
    return problem._replace(
        init=lambda key: problem.init(key)[0],
        train_loss=lambda *args: problem.train_loss(*args, model_state)[0],
        valid_loss=lambda *args: problem.valid_loss(*args, model_state),
        stateful=False,
        metrics=None,
    )


def restricted(problem: Problem, params: Params, trainable: Params) -> Problem:
    """A stateless problem in its trainable weights alone, the others held constant.

    Args:
      problem: a problem without model state (see `with_state`).
      params: all weights.
      trainable: tree like `params` of booleans.

    Returns:
      A problem whose weights are `select(params, trainable)`.
    """
    if all(jax.tree.leaves(trainable)):
        return problem

    def merged(selected: Params) -> Params:
        return merge(selected, params, trainable)

    return problem._replace(
        init=lambda key: select(problem.init(key), trainable),
        train_loss=lambda selected, *rest: problem.train_loss(merged(selected), *rest),
        valid_loss=lambda selected, *rest: problem.valid_loss(merged(selected), *rest),
        metrics=None,
    )


def select(params: Params, trainable: Params) -> Params:
    """The trainable leaves of a tree like the weights, with None in place of the others."""
    return jax.tree.map(lambda leaf, keep: leaf if keep else None, params, trainable)


def merge(selected: Params, others: Params, trainable: Params) -> Params:
    """The inverse of `select`: `others` gives the leaves that are not trainable."""
    chosen = iter(jax.tree.leaves(selected))
    return jax.tree.map(
        lambda leaf, keep: next(chosen) if keep else leaf,
        others,
        trainable,
    )
