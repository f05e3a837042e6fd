"""Proximal gradient steps: training with penalties that have kinks, to weights that are exactly 0.

    w ← prox_{αR}(w − α ∇S(w)),    prox_{αR}(v) = argmin_u ½‖u − v‖² + α R(u, λ)

for a training loss S + R with a smooth part S and a penalty R that isn't smooth (ISTA). A
`Regularizer` is R and its prox. The `Problem` has all of the loss, R included; the optimizer takes
R's derivative out of the gradient again and steps through the prox instead:

    lasso = shn.proximal.lasso()
    problem = shn.supervised(model, inputs, loss, lasso.penalty, space=shn.hyperparameters.log())
    method = shn.implicit(problem, optimizer=shn.proximal.gradient(lasso, 0.1), …)

Where weights are 0, a little more or less of λ leaves them there, so that the best response moves
on the support alone, and `implicit` solves there. Where the support changes, the best response has
a kink: it is continuous, its derivative jumps.

ISTA: Daubechies, Defrise and De Mol (2004). Hypergradients on the support: Feng and Simon (2018),
"Gradient-based Regularization Parameter Selection for Problems with Nonsmooth Penalty Functions",
arXiv:1703.09813; Bertrand et al. (2020), "Implicit differentiation of Lasso-type models for
hyperparameter optimization", arXiv:2002.08943.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import penalties
from shohypernet._internal import groups as grouping
from shohypernet._internal import validation
from shohypernet.types import Hyperparams, OptState, Params


class Regularizer(NamedTuple):
    """A penalty that isn't smooth, and how to step through it.

    Attributes:
      penalty: `penalty(params, hyperparams) -> scalar`, R(w, λ), with λ in natural units.
      prox: `prox(params, hyperparams, step_size) -> params`, prox_{αR(·, λ)}.
    """

    penalty: Callable[[Params, Hyperparams], jax.Array]
    prox: Callable[[Params, Hyperparams, Any], Params]


class ProximalGradient(NamedTuple):
    """A function from λ, in natural units, to an optimizer. See `gradient`.

    Attributes:
      regularizer: R.
      step_size: α, a number or a function of λ.
    """

    regularizer: Regularizer
    step_size: Any

    def __call__(self, hyperparams: Hyperparams) -> optax.GradientTransformation:
        """The optimizer at λ."""
        given: Any = self.step_size
        alpha = given(hyperparams) if callable(given) else given

        def init(params: Params) -> optax.EmptyState:
            del params
            return optax.EmptyState()

        def update(
            updates: Params, state: OptState, params: Params | None = None
        ) -> tuple[Params, OptState]:
            # At a weight of 0 this is the derivative that the loss itself has there.
            rough = jax.grad(self.regularizer.penalty)(params, hyperparams)
            smooth = jax.tree.map(jnp.subtract, updates, rough)
            before = jax.tree.map(lambda w, slope: w - alpha * slope, params, smooth)
            after = self.regularizer.prox(before, hyperparams, alpha)
            return jax.tree.map(jnp.subtract, after, params), state

        return optax.GradientTransformation(init, update)


def gradient(
    regularizer: Regularizer, step_size: float | Callable[[Hyperparams], Any]
) -> ProximalGradient:
    """Proximal gradient descent, for a training loss whose penalty is `regularizer.penalty`.

    Args:
      regularizer: R, such as `lasso()`.
      step_size: α, below 2/L for a smooth part whose curvature is at most L; or a function from λ,
        in natural units, to it.

    Returns:
      A function from λ to an optimizer, as `implicit`, `unrolled`, `truncated`, `forward`,
      `real_time` and `drmad` take it. `train` takes the optimizer that it makes of one λ.

    Raises:
      ValueError: if the step size is not above 0.
      TypeError: for something that is no Regularizer.
    """
    if not isinstance(regularizer, Regularizer):
        raise TypeError(
            "gradient() needs a Regularizer, such as shn.proximal.lasso(), got "
            f"{type(regularizer).__name__}."
        )
    validation.positive("gradient", step_size=step_size)
    return ProximalGradient(regularizer, step_size)


def support(params: Params) -> Params:
    """Which weights aren't 0, a tree of boolean arrays like them."""
    return jax.tree.map(lambda leaf: leaf != 0, params)


def lasso() -> Regularizer:
    """R(w, λ) = Σ_i λ_i |w_i|, whose prox is the soft threshold sign(v) max(|v| − αλ, 0)."""

    def prox(params: Params, decay: Hyperparams, step_size: Any) -> Params:
        each = penalties.broadcast(decay, params, missing=0.0)
        return jax.tree.map(lambda w, c: soft_threshold(w, step_size * c), params, each)

    return Regularizer(penalties.lasso, prox)


def elastic_net() -> Regularizer:
    """R(w, λ) = Σ_i l1_i |w_i| + ½ Σ_i l2_i w_i², λ = {"l1": …, "l2": …}.

    Its prox is the soft threshold, divided by 1 + α l2.
    """
    first = lasso()

    def prox(params: Params, decays: Hyperparams, step_size: Any) -> Params:
        thresholded = first.prox(params, decays["l1"], step_size)
        each = penalties.broadcast(decays["l2"], params, missing=0.0)
        return jax.tree.map(lambda w, c: w / (1 + step_size * c), thresholded, each)

    return Regularizer(penalties.elastic_net, prox)


def group_lasso(groups: Any) -> Regularizer:
    """R(w, λ) = Σ_g λ_g ‖w_g‖₂, whose prox shrinks each group: v_g max(1 − αλ_g/‖v_g‖, 0).

    Args:
      groups: number of each weight's group, from 0 on; a tree like the weights of arrays that
        broadcast to them, in NumPy.
    """

    def penalty(params: Params, decay: Hyperparams) -> jax.Array:
        return penalties.group_lasso(params, decay, groups)

    def prox(params: Params, decay: Hyperparams, step_size: Any) -> Params:
        kept = jnp.maximum(1 - step_size * decay / grouping.norms(params, groups), 0)
        return jax.tree.map(
            lambda w, group: w * kept[np.broadcast_to(group, w.shape)].astype(w.dtype),
            params,
            groups,
        )

    return Regularizer(penalty, prox)


def sparse_group_lasso(groups: Any) -> Regularizer:
    """R(w, λ) = l1 ‖w‖₁ + Σ_g groups_g ‖w_g‖₂, λ = {"l1": …, "groups": …}.

    Its prox is that of the group lasso after the soft threshold (Yu, 2013).

    Args:
      groups: as for `group_lasso`.
    """
    each, together = lasso(), group_lasso(groups)

    def penalty(params: Params, decays: Hyperparams) -> jax.Array:
        return penalties.sparse_group_lasso(params, decays, groups)

    def prox(params: Params, decays: Hyperparams, step_size: Any) -> Params:
        thresholded = each.prox(params, decays["l1"], step_size)
        return together.prox(thresholded, decays["groups"], step_size)

    return Regularizer(penalty, prox)


def soft_threshold(values: jax.Array, threshold: Any) -> jax.Array:
    """sign(v) max(|v| − t, 0), entry by entry."""
    return jnp.sign(values) * jnp.maximum(jnp.abs(values) - threshold, 0)
