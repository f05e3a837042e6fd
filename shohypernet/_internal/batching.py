"""A count of rounds that `vmap` leaves alone, for what is to happen in some rounds only."""

from typing import Any

import jax


@jax.custom_batching.custom_vmap
def same_for_all(count: jax.Array) -> jax.Array:
    """The same number; under `vmap`, that of the first run, for all have done as many rounds.

    A `lax.cond` on a number that differs from run to run computes both branches; on this one it
    remains a branch.
    """
    return count


@same_for_all.def_vmap
def _first(size: int, batched: list[bool], count: jax.Array) -> tuple[jax.Array, Any]:
    del size, batched
    return count[0], False
