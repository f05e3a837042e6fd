"""The paper's hypernet: a multilayer perceptron from λ to all weights at once.

    w_φ(λ) = W_L σ(… σ(W_1 λ + b_1) …) + b_L

One hidden layer of H units for D weights holds at least D·H numbers, so that this is for small
problems or few units. By Hornik (1991) a wide enough one can match any continuous best response
(the paper's theorem).

Lorraine and Duvenaud (2018), arXiv:1802.09419, section 3.
"""

from collections.abc import Callable, Sequence

import jax

from shohypernet.hypernets._base import Hypernet
from shohypernet.hypernets._dense import dense


def mlp(
    hidden: Sequence[int] = (50,),
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    init_scale: float | None = None,
) -> Hypernet:
    """w_φ(λ) = W_L σ(… σ(W_1 λ + b_1) …) + b_L.

    Args:
      hidden: widths of the hidden layers.
      activation: σ, ReLU in the paper.
      init_scale: standard deviation of the initial φ, 0.01 in the paper; None for a start at the
        model's weights.

    Returns:
      A Hypernet from any tree of hyperparameters to any tree of weights.

    Raises:
      ValueError: for a width below 1, or a negative scale.

    Reference:
      Lorraine and Duvenaud (2018), arXiv:1802.09419, section 3.
    """
    return dense("mlp", tuple(hidden), activation, init_scale)
