"""The paper's factorized linear hypernet: low rank, for as many hyperparameters as weights."""

from typing import Any

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, dense
from shohypernet.hypernets._mlp import PAPER_INIT_SCALE


def factorized(params: Any, rank: int = 10, *, init_scale: float = PAPER_INIT_SCALE) -> Hypernet:
    """w_φ(λ) = U (V λ + c) + b with U (D, rank) and V (rank, n), φ ~ N(0, init_scale²).

    Args:
      params: the weights to be made, or their `jax.ShapeDtypeStruct`s: any tree.
      rank: the bottleneck, 10 in the paper.
      init_scale: standard deviation of the initial φ.

    Returns:
      A Hypernet with (rank + 1)·D + rank·(n + 1) numbers for D weights and n hyperparameters.

    Raises:
      ValueError: for a rank below 1, or weights that aren't floating point.

    Reference:
      Lorraine and Duvenaud (2018), arXiv:1802.09419, section 4.3.
    """
    validation.not_negative("factorized", init_scale=init_scale)
    return dense(params, (rank,), lambda flat: flat, init_scale)
