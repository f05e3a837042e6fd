"""Samplers against SciPy's distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import DRAWS, assert_follows
from scipy import stats

from shohypernet import hyperparameters as hp
from shohypernet import samplers

CENTER = {"scalar": jnp.array(5.0), "vector": (jnp.array([-1.0, 2.0]),)}
SAMPLERS = {
    "gaussian": (samplers.gaussian(1.0, 3.0), lambda center: stats.norm(1.0, 3.0)),
    "uniform": (samplers.uniform(-3.0, 4.0), lambda center: stats.uniform(-3.0, 7.0)),
    "local_gaussian": (samplers.local_gaussian(0.5), lambda center: stats.norm(center, 0.5)),
}


@pytest.mark.parametrize(("sampler", "law"), SAMPLERS.values(), ids=SAMPLERS)
def test_every_entry_follows_its_law_apart_from_the_others(sampler, law, key):
    drawn = jax.vmap(sampler, (0, None))(jax.random.split(key, DRAWS), CENTER)
    assert jax.tree.structure(drawn) == jax.tree.structure(CENTER)
    entries = [drawn["scalar"], drawn["vector"][0][:, 0], drawn["vector"][0][:, 1]]
    for entry, center in zip(entries, [5.0, -1.0, 2.0], strict=True):
        assert_follows(entry, law(center))
    # A correlation of independent draws has deviation 1/√DRAWS.
    between = np.corrcoef(entries)[np.triu_indices(3, 1)]
    assert np.abs(between).max() < 4.5 / np.sqrt(DRAWS)


@pytest.mark.parametrize(("sampler", "law"), SAMPLERS.values(), ids=SAMPLERS)
def test_samplers_are_pure_in_their_key(sampler, law):
    first, again, other = (sampler(jax.random.key(k), jnp.zeros(3)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_local_gaussian_of_no_scale_stays(key):
    drawn = samplers.local_gaussian(0.0)(key, CENTER)
    jax.tree.map(np.testing.assert_array_equal, drawn, CENTER)


def test_clipped(key):
    """The authors' own p(λ): N(1, 3²) with all above 4, one deviation up, put at 4."""
    sampler = samplers.gaussian(1.0, 3.0)
    drawn = samplers.clipped(sampler, -100.0, 4.0)(key, jnp.zeros(DRAWS))
    np.testing.assert_array_equal(drawn, np.clip(sampler(key, jnp.zeros(DRAWS)), -100.0, 4.0))
    at_bound = int((drawn == 4.0).sum())
    assert stats.binomtest(at_bound, DRAWS, stats.norm.sf(1.0)).pvalue > 1e-3


def test_a_prior_has_a_range_for_each_hyperparameter(key):
    space = {"scalar": hp.log(prior=(1e-3, 10.0)), "vector": hp.real(2.0, 0.5)}
    drawn = jax.vmap(samplers.prior(space), (0, None))(jax.random.split(key, DRAWS), CENTER)
    low, high = np.log(1e-3), np.log(10.0)
    assert_follows(drawn["scalar"], stats.uniform(low, high - low))
    assert_follows(drawn["vector"][0][:, 1], stats.norm(2.0, 0.5))
    with pytest.raises(ValueError, match="gradients cannot move"):
        samplers.prior(hp.integer(1, 3))


def test_fixed_set_draws_each_point_alike_and_whole(key):
    points = {"scalar": jnp.arange(5.0), "vector": (jnp.arange(10.0).reshape(5, 2),)}
    drawn = jax.vmap(samplers.fixed_set(points), (0, None))(jax.random.split(key, DRAWS), CENTER)
    np.testing.assert_array_equal(drawn["vector"][0][:, 0], 2 * drawn["scalar"])
    np.testing.assert_array_equal(drawn["vector"][0][:, 1], 2 * drawn["scalar"] + 1)
    counts = np.unique(drawn["scalar"], return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert len(counts) == 5


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gaussian", (0.0, -1.0)),
        ("gaussian", (0.0, np.inf)),
        ("gaussian", (np.nan, 1.0)),
        ("local_gaussian", (-1e-5,)),
        ("local_gaussian", (np.nan,)),
        ("uniform", (2.0, 1.0)),
        ("uniform", (-np.inf, 1.0)),
        ("clipped", (samplers.gaussian(), 4.0, -100.0)),
        ("fixed_set", (jnp.zeros(()),)),
        ("fixed_set", (jnp.zeros((0, 2)),)),
        ("fixed_set", ({"one": jnp.zeros(3), "other": jnp.zeros(4)},)),
        ("fixed_set", ({},)),
    ],
)
def test_bad_arguments_are_refused(name, arguments):
    with pytest.raises(ValueError, match=rf"^{name}\(\) needs"):
        getattr(samplers, name)(*arguments)
