"""The bilevel problem: choose λ to minimize L_valid(w*(λ)), w*(λ) = argmin_w L_train(w, λ).

A `Problem` is three pure functions and the space that λ lives in. Its losses read hyperparameters
in natural units. Methods move unconstrained ones: they work on `unconstrained(problem)`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from shohypernet import hyperparameters as hp
from shohypernet._internal import labels, validation
from shohypernet.regularizers import Regularizer
from shohypernet.regularizers import _base as regularization
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
    """

    init: Callable[[Key], Any]
    train_loss: TrainLoss
    valid_loss: ValidLoss
    space: Space = hp.UNCONSTRAINED
    stateful: bool = False
    start: Any = None
    metrics: Mapping[str, ValidLoss] | None = None
    check: Callable[[Any], None] | None = None


def require_readable(problem: Problem, data: Any) -> None:
    """Refuse splits of examples that a problem's losses would misread.

    Raises:
      ValueError: naming the split.
    """
    if problem.check is None:
        return
    for name, examples in data._asdict().items():
        if examples is None:
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


def supervised(
    model: Any,
    inputs: jax.Array,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    penalty: Callable[[Any, Any], jax.Array] | None = None,
    *,
    regularizers: Sequence[Regularizer] = (),
    metrics: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] | None = None,
    space: Space = hp.UNCONSTRAINED,
    init: Callable[[Key], Params] | None = None,
    train_kwargs: dict[str, Any] | None = None,
    eval_kwargs: dict[str, Any] | None = None,
) -> Problem:
    """A Problem from a Flax module, a prediction loss, a penalty and regularizers.

    L_train(w, λ) = loss(model(x; w), y) + penalty(w, λ); L_valid(w) = loss(model(x; w), y).
    Batches are pairs (inputs, targets). Regularizers change what the training loss sees: theirs
    are hyperparameters by their names, such as {"dropout": {"Dropout_0": 0.05}, "translate": 0.5},
    with spaces and starts of their own.

    Args:
      model: a Flax Linen module; or a function `model(params, inputs) -> outputs`, with `init`.
        Collections besides "params", such as "batch_stats", are the model state: each training
        step updates them, and validation reads them unchanged.
      inputs: an example of the inputs, leading axis included, for its shape and dtype. Integers
        are passed on unscaled, and dense layers convert them to floats: scale images yourself.
      loss: `loss(outputs, targets) -> scalar`, a mean over examples.
      penalty: `penalty(params, hyperparams) -> scalar`, with hyperparameters in natural units.
      regularizers: such as `[shn.regularizers.dropout(), shn.regularizers.weight_decay()]`.
      metrics: more to be told at each evaluation, by name, `metric(outputs, targets) -> scalar`, a
        mean over examples: such as `{"accuracy": shn.metrics.accuracy}`.
      space: specs from `hyperparameters`, a prefix of the hyperparameters' tree; beside
        regularizers a mapping of the penalty's own hyperparameters.
      init: `init(key) -> params`, fresh weights for a model that is a function.
      train_kwargs: keyword arguments of the model in training, such as
        `{"deterministic": False}`; the key of the loss is a module's "dropout" stream.
      eval_kwargs: keyword arguments of the model elsewhere, such as `{"deterministic": True}`.

    Returns:
      A Problem whose params are the module's "params" collection, and whose start is that of its
      regularizers.

    Raises:
      TypeError: for a model of another kind, with the way to wrap it, or for something that is no
        regularizer.
      ValueError: for regularizers that share a name or that the model gives nothing to do.
    """
    train_kwargs, eval_kwargs = train_kwargs or {}, eval_kwargs or {}
    make, apply, collections = _model(model, init, inputs, eval_kwargs)
    parts = regularization.require_regularizers(regularizers)

    def train_loss(
        params: Params, hyperparams: Hyperparams, batch: Any, key: Key, state: ModelState = ()
    ) -> Any:
        inputs, targets, *numbers = batch
        if parts:
            key, key_batch = jax.random.split(key)
            inputs, targets = regularization.transformed(
                parts, key_batch, hyperparams, (inputs, targets)
            )
        with regularization.intercepted(parts, hyperparams):
            outputs, state = apply(params, state, inputs, {"dropout": key}, **train_kwargs)
        value = regularization.prediction_loss(parts, loss, hyperparams, outputs, targets, numbers)
        if penalty is not None:
            value = value + penalty(params, hyperparams)
        if parts:
            value = value + regularization.penalty(parts, hyperparams, params)
        return (value, state) if collections else value

    predict = functools.partial(apply, **eval_kwargs)

    def check(examples: Any) -> None:
        def outputs(key: Key) -> Any:
            return predict(*initialize(problem, key), inputs, None)[0]

        labels.require_known(loss, jax.eval_shape(outputs, jax.random.key(0)), examples)

    problem = Problem(
        make,
        train_loss,
        _on_outputs(loss, predict),
        space,
        stateful=bool(collections),
        metrics={name: _on_outputs(metric, predict) for name, metric in (metrics or {}).items()},
        check=check,
    )
    if not parts:
        return problem

    def in_training(key: Key) -> Any:
        return apply(*initialize(problem, key), inputs, {"dropout": key}, **train_kwargs)

    described = regularization.describe_model(param_shapes(problem), in_training)
    own = {} if space is hp.UNCONSTRAINED else dict(space)
    return problem._replace(
        space={**own, **{each.name: each.space for each in parts}},
        start={each.name: each.start(described) for each in parts},
    )


def _on_outputs(
    function: Callable[[jax.Array, jax.Array], jax.Array], predict: Callable[..., Any]
) -> ValidLoss:
    """A loss or metric of outputs and targets as one of weights and a batch."""

    def measured(
        params: Params, hyperparams: Hyperparams, batch: Any, state: ModelState = ()
    ) -> jax.Array:
        del hyperparams
        inputs, targets, *_ = batch
        return function(predict(params, state, inputs, None)[0], targets)

    return measured


def _model(
    model: Any, init: Callable[[Key], Params] | None, inputs: Any, eval_kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any], list[str]]:
    """A model's `init(key)`, its `apply(params, state, inputs, rngs, **kwargs)`, and its state."""
    module = validation.model(model, init)
    if module is None:
        assert init is not None
        return init, lambda params, state, inputs, rngs, **kw: (model(params, inputs, **kw), ()), []

    def variables(key: Key) -> Any:
        # Linen draws the same weights without the second stream, but NNX's dropout asks for one.
        streams = {"params": key, "dropout": jax.random.fold_in(key, 0)}
        return module.init(streams, inputs, **eval_kwargs)

    collections = sorted(set(jax.eval_shape(variables, jax.random.key(0))) - {"params"})

    def make(key: Key) -> Any:
        made = dict(variables(key))
        params = made.pop("params", {})
        return (params, made) if collections else params

    def apply(
        params: Params, state: ModelState, inputs: Any, rngs: Any, **kwargs: Any
    ) -> tuple[Any, ModelState]:
        if not collections:
            return module.apply({"params": params}, inputs, rngs=rngs, **kwargs), ()
        # Mutable in validation too, where what changes is dropped: a layer may update its
        # statistics although it reads the batch's own.
        outputs, changed = module.apply(
            {"params": params, **state}, inputs, rngs=rngs, mutable=collections, **kwargs
        )
        return outputs, {**state, **changed}

    return make, apply, collections
