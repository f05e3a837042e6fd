"""Identity of a run: what must be equal for a resumed run to be the same run."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from shohypernet._internal.trees import by_path, keys_as_data
from shohypernet.batches import Data
from shohypernet.fitting._checks import is_function
from shohypernet.fitting._plan import Plan
from shohypernet.sources import Source

CHANGEABLE = "steps", "checkpoint_every", "seeds_at_once"  # the rest of a plan identifies a run


def identity(
    plan: Plan, data: Data, start: Any, states: Any, config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Description of a run, as JSON can hold it.

    Args:
      plan: sizes of the run.
      data: the three splits.
      start: λ̂ unconstrained, or a function to it.
      states: of the method for all seeds, or their shapes.
      config: more that identifies the run.
    """
    described = {
        **plan._asdict(),
        "data": describe_data(data),
        "hyperparams": "a function" if is_function(start) else describe(start, contents=True),
        "state": describe(states),
        "config": dict(config or {}),
    }
    return {name: value for name, value in described.items() if name not in CHANGEABLE}


def describe_data(data: Data) -> dict[str, str]:
    """`describe` of each split, with contents."""
    splits = data._asdict()
    arrays = {name: split for name, split in splits.items() if not isinstance(split, Source)}
    sources = {name: split.describe() for name, split in splits.items() if name not in arrays}
    return describe(arrays, contents=True) | sources


def describe(tree: Any, *, contents: bool = False) -> dict[str, str]:
    """Each leaf's dtype and shape by its path and, if asked, a checksum of its contents."""

    def described(leaf: Any) -> str:
        text = f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        if not contents:
            return text
        return f"{text} crc32 {zlib.crc32(np.asarray(jnp.asarray(leaf)).tobytes()):08x}"

    return by_path(described, keys_as_data(tree))
