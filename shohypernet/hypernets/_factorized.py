"""The paper's factorized linear hypernet: low rank, for as many hyperparameters as weights.

    w_φ(λ) = U (V λ + c) + b,    U (D, rank),  V (rank, n)

Lorraine and Duvenaud (2018), arXiv:1802.09419, section 4.3.
"""

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet
from shohypernet.hypernets._dense import dense


def factorized(rank: int = 10, *, init_scale: float | None = None) -> Hypernet:
    """w_φ(λ) = U (V λ + c) + b with U (D, rank) and V (rank, n).

    Args:
      rank: width of the bottleneck, 10 in the paper.
      init_scale: standard deviation of the initial φ, 0.01 in the paper; None for a start at the
        model's weights.

    Returns:
      A Hypernet with (rank + 1)·D + rank·(n + 1) numbers for D weights and n hyperparameters.

    Raises:
      ValueError: for a rank below 1, or a negative scale.

    Reference:
      Lorraine and Duvenaud (2018), arXiv:1802.09419, section 4.3.
    """
    validation.whole("factorized", rank=rank)
    return dense("factorized", (rank,), lambda flat: flat, init_scale)
