"""Number of seeds that a device steps together, by a rule.

A rule, and not a timing: two runs of one program, and a run that is resumed, choose alike, and so
end bit for bit alike.
"""

import math
from typing import Any

import jax

from shohypernet.batches import Data, rows
from shohypernet.fitting._plan import Plan
from shohypernet.sources import Source

LARGE = 2**20  # bytes of one seed's state


def seeds_at_once(plan: Plan, data: Data, states: Any) -> int | None:
    """1 for seeds that go one at a time, None for all at once; a plan's own number comes first.

    Together, seeds share one reading of the data that all of them take whole, and small operations
    cost little more for many seeds than for one. One at a time, a seed's state stays in the cache,
    no gradient is transposed, and each minibatch is a product of its own in either case. So on a
    CPU seeds go one at a time if

        bytes of a seed's state ≥ 1 MiB   and
        examples of a round in minibatches of its own > those of splits that are taken whole.

    Measured on 2 cores, seed-steps/s of 16 seeds one at a time over those together (a quiet
    machine, docs/speed.md): 0.6 where all take 10,010 images whole; 1.1, 1.6 and 1.8 with
    minibatches and states of 2, 2 and 23 MB. Below 1 MiB, of 4 seeds on a busy one: 0.7 (57 KiB),
    0.95 (620 KiB). On other devices, which need wide operations, and with sources, where a round's
    reading for all seeds is one call to the host, all go at once.

    Args:
      plan: sizes of the run.
      data: the three splits.
      states: shapes and dtypes of the method's state; leaves lead with the seed axis.
    """
    if plan.seeds_at_once is not None:
        return plan.seeds_at_once
    if jax.default_backend() != "cpu" or any(isinstance(split, Source) for split in data):
        return None
    size = sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(states))
    sizes = (plan.train_batch_size, plan.inner_steps), (plan.valid_batch_size, 1)
    own = sum(times * size for size, times in sizes if size is not None)
    whole = sum(
        times * rows(split)
        for split, (size, times) in zip(data[:2], sizes, strict=True)
        if size is None
    )
    return 1 if size >= LARGE and own > whole else None
