"""The linear hypernet: right near one λ̂, and all that local training needs.

    w_φ(λ) = W λ + b

Lorraine and Duvenaud (2018), arXiv:1802.09419, section 2.3.
"""

from shohypernet.hypernets._base import Hypernet
from shohypernet.hypernets._dense import dense


def linear(*, init_scale: float | None = None) -> Hypernet:
    """w_φ(λ) = W λ + b.

    Args:
      init_scale: standard deviation of the initial φ, 0.01 in the paper; None for a start at the
        model's weights.

    Returns:
      A Hypernet with D·(n + 1) numbers for D weights and n hyperparameters.

    Raises:
      ValueError: for a negative scale.
    """
    return dense("linear", (), lambda flat: flat, init_scale)
