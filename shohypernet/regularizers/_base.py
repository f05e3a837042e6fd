"""The protocol of regularizers, and how several of them make one training loss.

    z_b = f(T_λ(x_b); P_λ w, ξ_λ)
    L_train(w, λ) = Σ_b a_b(λ) L_pred(z_b, y_b) / n + A(z, λ) + R(w, λ)

T_λ transforms examples and P_λ the weights that they meet, ξ_λ is what happens inside the model,
such as dropout, a_b weighs examples, and A and R are penalties of outputs and of weights.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.types import Hyperparams, Key, Params, Space


class Model(NamedTuple):
    """What regularizers are told of a model.

    Attributes:
      params: shapes and dtypes of its weights.
      dropouts: paths of the `nn.Dropout`s that are active in training, such as "Block_0/Dropout_1".
    """

    params: Params
    dropouts: tuple[str, ...]


class Regularizer(NamedTuple):
    """A part of the training loss whose strength is a hyperparameter, in natural units.

    Attributes:
      name: of its hyperparameters.
      space: specs, a prefix of them.
      start: `start(model) -> values` to start from.
      transform: `transform(key, values, inputs, targets) -> (inputs, targets)` for a batch.
      intercept: `intercept(values)`, an interceptor of Flax methods, in force while the model is
        applied.
      weigh: `weigh(values, targets, *numbers) -> a`, shape (n,); `numbers` is what a batch holds
        besides inputs and targets.
      penalty: `penalty(values, params) -> R`, scalar.
      perturb: `perturb(key, values, params) -> params`, the weights that the model is applied with.
      activity: `activity(values, outputs) -> A`, scalar, a mean over examples.
    """

    name: str
    space: Space
    start: Callable[[Model], Hyperparams]
    transform: Callable[..., tuple[Any, Any]] | None = None
    intercept: Callable[[Hyperparams], Callable[..., Any]] | None = None
    weigh: Callable[..., jax.Array] | None = None
    penalty: Callable[[Hyperparams, Params], jax.Array] | None = None
    perturb: Callable[[Key, Hyperparams, Params], Params] | None = None
    activity: Callable[[Hyperparams, Any], jax.Array] | None = None


def of_strength(
    function: str,
    start: float,
    high: float,
    name: str,
    transform: Callable[..., tuple[Any, Any]],
) -> Regularizer:
    """A regularizer that transforms batches, of one number between 0 and an upper bound.

    Raises:
      ValueError: for a start outside the bounds.
    """
    space = require_start(function, start, hp.bounded(0.0, high))
    return Regularizer(name, space, lambda model: start, transform)


def require_start(function: str, start: Any, space: Any) -> Any:
    """The spec of a hyperparameter, if it can start so.

    Raises:
      ValueError: for a start that isn't strictly inside its range.
    """
    try:
        hp.encode(space, start)
    except ValueError as error:
        raise ValueError(f"{function}(): {error}") from error
    return space


def require_regularizers(values: Any) -> tuple[Regularizer, ...]:
    """The regularizers in a sequence, with names that differ.

    Raises:
      TypeError: for something else, such as one that was not called.
      ValueError: for two of one name.
    """
    values = tuple(values) if isinstance(values, Sequence) else (values,)
    for value in values:
        if not isinstance(value, Regularizer):
            raise TypeError(
                "supervised(regularizers=...) needs a sequence of regularizers, such as "
                f"[shn.regularizers.dropout(), shn.regularizers.weight_decay()], got {value!r}."
            )
    names = [each.name for each in values]
    twice = sorted({name for name in names if names.count(name) > 1})
    validation.require(
        not twice,
        f"two regularizers are called {', '.join(twice)}; give one of them another name=...",
    )
    return values


def describe_model(params: Params, train: Callable[[Key], Any]) -> Model:
    """What regularizers are told of a model.

    Args:
      params: shapes of its weights.
      train: applies it in training, for a key of its stochastic terms.
    """
    dropouts: list[str] = []

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, nn.Dropout) and context.method_name == "__call__":
            path = "/".join(module.path) or "Dropout"
            if not is_deterministic(module, args, kwargs) and path not in dropouts:
                dropouts.append(path)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda key: train(key), jax.random.key(0))
    return Model(params, tuple(dropouts))


def is_deterministic(module: nn.Dropout, args: Any, kwargs: Any) -> bool:
    """Whether an `nn.Dropout` called so drops nothing."""
    given = kwargs.get("deterministic", args[1] if len(args) > 1 else None)
    return bool(module.deterministic if given is None else given)


def transformed(
    regularizers: Sequence[Regularizer], key: Key, hyperparams: Hyperparams, batch: tuple[Any, Any]
) -> tuple[Any, Any]:
    """Inputs and targets as the regularizers leave them, in their order."""
    for i, each in enumerate(regularizers):
        if each.transform is not None:
            batch = each.transform(jax.random.fold_in(key, i), hyperparams[each.name], *batch)
    return batch


def perturbed(
    regularizers: Sequence[Regularizer], key: Key, hyperparams: Hyperparams, params: Params
) -> Params:
    """P_λ w, in the order of the regularizers."""
    for i, each in enumerate(regularizers):
        if each.perturb is not None:
            params = each.perturb(jax.random.fold_in(key, i), hyperparams[each.name], params)
    return params


@contextlib.contextmanager
def intercepted(regularizers: Sequence[Regularizer], hyperparams: Hyperparams) -> Iterator[None]:
    """Within it, modules do what the regularizers make of them."""
    with contextlib.ExitStack() as stack:
        for each in regularizers:
            if each.intercept is not None:
                interceptor = each.intercept(hyperparams[each.name])
                stack.enter_context(nn.intercept_methods(interceptor))
        yield


def prediction_loss(
    regularizers: Sequence[Regularizer],
    loss: Callable[[Any, Any], jax.Array],
    hyperparams: Hyperparams,
    outputs: Any,
    targets: Any,
    numbers: Sequence[Any],
) -> jax.Array:
    """Σ_b a_b L_pred(z_b, y_b) / n, or the loss as it is if nothing weighs examples."""
    weights = [
        each.weigh(hyperparams[each.name], targets, *numbers)
        for each in regularizers
        if each.weigh is not None
    ]
    if not weights:
        return loss(outputs, targets)
    single = jax.tree.map(lambda leaf: leaf[:, None], (outputs, targets))
    losses = jax.vmap(loss)(*single)
    for each in weights:
        losses = losses * each
    return jnp.mean(losses)


def penalty(
    regularizers: Sequence[Regularizer], hyperparams: Hyperparams, params: Params, outputs: Any
) -> jax.Array:
    """Σ A(z, λ) + R(w, λ)."""
    parts = [
        function(hyperparams[each.name], of)
        for each in regularizers
        for function, of in ((each.activity, outputs), (each.penalty, params))
        if function is not None
    ]
    return sum(parts, start=jnp.float32(0))
