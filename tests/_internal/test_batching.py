"""A count that stays one number under vmap."""

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal.batching import same_for_all


def test_a_branch_on_it_is_taken_by_none_or_by_all(key):
    taken = []

    def branch(x):
        jax.debug.callback(lambda _: taken.append(None), x)
        return x + 1

    def run(count, x):
        return jax.lax.cond(same_for_all(count) % 2 == 0, branch, lambda x: x, x)

    runs = jax.jit(jax.vmap(run))
    xs = jnp.arange(3.0)
    np.testing.assert_array_equal(runs(jnp.array([1, 1, 1]), xs), xs)
    jax.effects_barrier()
    assert not taken
    np.testing.assert_array_equal(runs(jnp.array([4, 4, 4]), xs), xs + 1)
    jax.effects_barrier()
    assert len(taken) == 3


def test_alone_it_is_the_count():
    assert int(jax.jit(same_for_all)(jnp.int32(7))) == 7
