"""A bilevel problem from a model, a prediction loss, a penalty and regularizers."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from shohypernet import hyperparameters as hp
from shohypernet._internal import labels, validation
from shohypernet.problem import Problem, initialize, param_shapes
from shohypernet.regularizers import Regularizer
from shohypernet.regularizers import _base as regularization
from shohypernet.types import Hyperparams, Key, ModelState, Params, Space, ValidLoss


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
        met = params
        if parts:
            key, key_batch = jax.random.split(key)
            inputs, targets = regularization.transformed(
                parts, key_batch, hyperparams, (inputs, targets)
            )
            key_weights = jax.random.fold_in(key_batch, len(parts))
            met = regularization.perturbed(parts, key_weights, hyperparams, params)
        with regularization.intercepted(parts, hyperparams):
            outputs, state = apply(met, state, inputs, {"dropout": key}, **train_kwargs)
        value = regularization.prediction_loss(parts, loss, hyperparams, outputs, targets, numbers)
        if penalty is not None:
            value = value + penalty(params, hyperparams)
        if parts:
            value = value + regularization.penalty(parts, hyperparams, params, outputs)
        return (value, state) if collections else value

    predict = functools.partial(apply, **eval_kwargs)
    problem = Problem(
        make,
        train_loss,
        _on_outputs(loss, predict),
        space,
        stateful=bool(collections),
        metrics={name: _on_outputs(metric, predict) for name, metric in (metrics or {}).items()},
        check=lambda examples: labels.require_known(
            loss, jax.eval_shape(outputs, jax.random.key(0)), examples
        ),
    )

    def outputs(key: Key) -> Any:
        return predict(*initialize(problem, key), inputs, None)[0]

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
