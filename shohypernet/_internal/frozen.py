"""Which weights training can move, whoever froze the others: read off traces, not computed."""

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import jaxprs
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


def moved_by_optimizer(optimizer: optax.GradientTransformation, params: Params) -> Params:
    """Which weights an optimizer moves, a tree of booleans like them.

    The others have updates that are zero by construction, as `optax.multi_transform`, `masked`,
    `freeze` and `set_to_zero` make them. Read off the trace of an update: nothing is computed.
    """

    def updates(gradient: Params, params: Params, value: jax.Array) -> Params:
        update = optax.with_extra_args_support(optimizer).update
        opt_state = optimizer.init(params)
        extra = {"grad": gradient, "value": value, "value_fn": optax.tree.norm}
        return update(gradient, opt_state, params, **extra)[0]

    frozen = jaxprs.zeros(updates, params, params, jax.ShapeDtypeStruct((), jnp.float32))
    return jax.tree.unflatten(jax.tree.structure(params), [not still for still in frozen])


def moved_by_loss(
    problem: Problem, params: Params, hyperparams: Hyperparams, batch: Batch, key: Key
) -> Params:
    """Which weights the training loss of a stateless problem moves, a tree of booleans like them.

    The others have gradients that are zero by construction, as a `stop_gradient` makes them.
    """
    frozen = jaxprs.zeros(
        lambda params, hyperparams: jax.grad(problem.train_loss)(params, hyperparams, batch, key),
        params,
        hyperparams,
    )
    return jax.tree.unflatten(jax.tree.structure(params), [not still for still in frozen])
