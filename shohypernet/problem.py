"""The bilevel problem: choose λ to minimize L_valid(w*(λ)), w*(λ) = argmin_w L_train(w, λ).

A `Problem` is three pure functions. Methods see hyperparameters in unconstrained space only, so a
problem written in natural units is wrapped by a space from `hyperparameters`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from shohypernet import hyperparameters as hp


class Problem(NamedTuple):
    """What is tuned.

    Attributes:
      init: `init(key) -> params`, fresh elementary weights w.
      train_loss: `train_loss(params, hyperparams, batch, key) -> scalar`, the inner objective
        L_train(w, λ) = E_x[L_pred(x, w)] + L_reg(w, λ) on one minibatch; `key` serves what is
        random in it (dropout, augmentation).
      valid_loss: `valid_loss(params, hyperparams, batch) -> scalar`, the outer objective
        L_valid(w), without penalty or noise; it may ignore the hyperparameters.
    """

    init: Callable[[jax.Array], Any]
    train_loss: Callable[[Any, Any, Any, jax.Array], jax.Array]
    valid_loss: Callable[[Any, Any, Any], jax.Array]


def supervised(
    model: nn.Module,
    inputs: jax.Array,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    penalty: Callable[[Any, Any], jax.Array],
    *,
    space: Any = None,
    train_kwargs: dict[str, Any] | None = None,
    eval_kwargs: dict[str, Any] | None = None,
) -> Problem:
    """A Problem from a Flax module, a prediction loss and a penalty.

    L_train(w, λ) = loss(model(x; w), y) + penalty(w, decode(λ)); L_valid(w) = loss(model(x; w), y).
    Batches are pairs (inputs, targets).

    Args:
      model: a Flax Linen module with no state but its "params".
      inputs: an example of the inputs, leading axis included, for its shape and dtype. Whole
        numbers stay as they are, and dense layers take them for floats: scale images yourself.
      loss: `loss(outputs, targets) -> scalar`, a mean over examples.
      penalty: `penalty(params, values) -> scalar`, with hyperparameters in natural units.
      space: specs from `hyperparameters`, a prefix of the hyperparameters' tree, that decode them
        to natural units. Without one they are passed on as they are.
      train_kwargs: keywords for `model.apply` in training, such as `{"deterministic": False}`; the
        loss's key is given as its "dropout" stream.
      eval_kwargs: keywords for `model.apply` elsewhere, such as `{"deterministic": True}`.

    Returns:
      A Problem whose params are the module's "params" collection.

    Raises:
      ValueError: if the module keeps other state (batch statistics), or the space holds a
        hyperparameter that no gradient can move.
    """
    train_kwargs, eval_kwargs = train_kwargs or {}, eval_kwargs or {}
    if space is None:
        space = hp.real()
    hp.require_differentiable(space)

    collections = jax.eval_shape(
        lambda key: model.init(key, inputs, **eval_kwargs), jax.random.key(0)
    )
    if set(collections) != {"params"}:
        raise ValueError(
            f"supervised() needs a module with only a 'params' collection; {type(model).__name__} "
            f"has {sorted(collections)}. Freeze its state into the module, or write the Problem's "
            "three functions yourself."
        )

    def init(key: jax.Array) -> Any:
        return model.init(key, inputs, **eval_kwargs)["params"]

    def predict(params: Any, inputs: jax.Array, **kwargs: Any) -> Any:
        return model.apply({"params": params}, inputs, **kwargs)

    def train_loss(params: Any, hyperparams: Any, batch: Any, key: jax.Array) -> jax.Array:
        inputs, targets = batch
        outputs = predict(params, inputs, rngs={"dropout": key}, **train_kwargs)
        return loss(outputs, targets) + penalty(params, hp.decode(space, hyperparams))

    def valid_loss(params: Any, hyperparams: Any, batch: Any) -> jax.Array:
        del hyperparams
        inputs, targets = batch
        return loss(predict(params, inputs, **eval_kwargs), targets)

    return Problem(init, train_loss, valid_loss)
