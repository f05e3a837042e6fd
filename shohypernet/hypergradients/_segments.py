"""A scan to be differentiated in memory that grows like the square root of its length.

It is cut into segments. Of each only the first carry is kept, and the rest is computed again when
the backward pass gets there (Griewank 1992; Chen et al. 2016, arXiv:1604.06174).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def square_root(steps: int) -> int:
    """⌈√T⌉: the segment for which the carries kept and the steps computed again balance."""
    return math.isqrt(steps - 1) + 1


def recomputed(steps: int, segment: int) -> int:
    """The steps that the backward pass computes again: all but those of an unfinished segment."""
    return 0 if segment >= steps else steps - steps % segment


def scan(
    function: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any, segment: int
) -> tuple[Any, Any]:
    """`jax.lax.scan(function, carry, inputs)`, differentiated segment by segment.

    Args:
      function: `function(carry, input) -> (carry, output)`.
      carry: what it starts with.
      inputs: leaves led by an axis of T.
      segment: steps in each segment. With T or more, all are kept and nothing is computed again.

    Returns:
      The last carry, and the outputs.
    """
    steps = jax.tree.leaves(inputs)[0].shape[0]
    whole = recomputed(steps, segment)

    def through(carry: Any, inputs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(function, carry, inputs)

    if not whole:
        return through(carry, inputs)
    # In a scan no other copy of the segment can be mistaken for the recomputed one.
    forgetful = jax.checkpoint(through, prevent_cse=False)
    cut = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, segment, *leaf.shape[1:]), inputs)
    carry, outputs = jax.lax.scan(forgetful, carry, cut)
    outputs = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), outputs)
    if whole < steps:
        carry, last = through(carry, jax.tree.map(lambda leaf: leaf[whole:], inputs))
        outputs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), outputs, last)
    return carry, outputs
