"""The paper's hypernet: a multilayer perceptron from λ to all weights at once.

One hidden layer of H units for D weights holds at least D·H numbers, so this is for small problems
or few units; with no hidden layer it is the linear hypernet of Algorithm 3. By Hornik (1991) a wide
enough one can match any continuous best response (the paper's theorem).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, dense

PAPER_INIT_SCALE = 0.01


def mlp(
    params: Any,
    hidden: Sequence[int] = (50,),
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    init_scale: float = PAPER_INIT_SCALE,
) -> Hypernet:
    """w_φ(λ) = W_L σ(… σ(W_1 λ + b_1) …) + b_L, φ ~ N(0, init_scale²).

    Args:
      params: the weights to be made, or their `jax.ShapeDtypeStruct`s: any tree.
      hidden: widths of the hidden layers.
      activation: σ, ReLU in the paper.
      init_scale: standard deviation of the initial φ.

    Returns:
      A Hypernet from any tree of hyperparameters to trees like `params`.

    Raises:
      ValueError: for a width below 1, or weights that aren't floating point.

    Reference:
      Lorraine and Duvenaud (2018), arXiv:1802.09419, section 3.
    """
    validation.not_negative("mlp", init_scale=init_scale)
    return dense(params, hidden, activation, init_scale)


def linear(params: Any, *, init_scale: float = PAPER_INIT_SCALE) -> Hypernet:
    """w_φ(λ) = W λ + b: right near one λ̂, and all that local training needs.

    Args:
      params: the weights to be made, or their `jax.ShapeDtypeStruct`s: any tree.
      init_scale: standard deviation of the initial φ.

    Returns:
      A Hypernet with D·(n + 1) numbers for D weights and n hyperparameters.
    """
    return mlp(params, (), init_scale=init_scale)
