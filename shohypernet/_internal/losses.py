"""Checks of what a problem's losses return, for `fit` and the search."""

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, ModelState, Params

Losses = Callable[[Hyperparams], dict[str, Any]]  # both, by name
CONCRETIZATION = jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError


def losses_at(
    problem: Problem,
    params: Params,
    model_state: ModelState,
    batches: tuple[Batch, Batch],
    key: Key,
) -> Losses:
    """What both losses return at some weights, as a function of λ in natural units."""
    train_batch, valid_batch = batches
    extra = (model_state,) if problem.stateful else ()
    return lambda values: {
        "train_loss": problem.train_loss(params, values, train_batch, key, *extra),
        "valid_loss": problem.valid_loss(params, values, valid_batch, *extra),
    }


def require_scalars(problem: Problem, losses: Losses, unconstrained: Hyperparams) -> None:
    """Refuse losses that aren't floating-point scalars, or decide in Python on a value of λ.

    Args:
      problem: as given, with λ in natural units.
      losses: both, as `losses_at` returns them.
      unconstrained: λ.

    Raises:
      ValueError: saying which.
    """
    values = hp.decode(problem.space, unconstrained)
    try:
        returned = losses(values)
    except CONCRETIZATION as error:
        _blame_hyperparams(losses, values, error)
    for name, loss in returned.items():
        pair = problem.stateful and name == "train_loss"
        if pair and not (isinstance(loss, tuple) and len(loss) == 2):
            raise ValueError(
                f"problem.{name} must return (loss, model_state), as the problem is stateful, got "
                f"{_types(loss)}."
            )
        scalar = loss[0] if pair else loss
        if jax.tree.map(jnp.shape, scalar) != () or not _is_floating(scalar):
            raise ValueError(
                f"problem.{name} must return a floating-point scalar, got {_types(scalar)}."
            )


def require_metrics(
    problem: Problem, params: Params, model_state: ModelState, values: Hyperparams, batch: Batch
) -> None:
    """Refuse metrics that aren't scalars.

    Raises:
      ValueError: naming one.
    """
    extra = (model_state,) if problem.stateful else ()
    for name, metric in (problem.metrics or {}).items():
        returned = metric(params, values, batch, *extra)
        if jax.tree.map(jnp.shape, returned) != ():
            raise ValueError(
                f"problem.metrics[{name!r}] must return a scalar, such as a mean over examples, "
                f"got {_types(returned)}."
            )


def _blame_hyperparams(losses: Losses, values: Hyperparams, error: Exception) -> NoReturn:
    """Explain an error of tracing that doesn't come with hyperparameters that are plain numbers."""
    plain = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype)[()], values)
    try:
        losses(plain)
    except Exception:
        raise error from None
    raise ValueError(
        "a loss decides in Python on a hyperparameter's value, as nn.Dropout(rate=λ) does by `if "
        "rate == 0`, but that value is traced. Use it in arithmetic only: for dropout draw the "
        "mask yourself, x * (jax.random.uniform(key, x.shape) < 1 - rate) / (1 - rate), whose rate "
        "a hypernet can tune."
    ) from error


def _types(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: str(jax.typeof(leaf)), tree)


def _is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
