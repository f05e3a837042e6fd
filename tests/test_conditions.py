"""Conditional hyperparameters: what is active, by hand, and what can't be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet import hyperparameters as hp
from shohypernet._conditions import as_text

# `bound` is conditional on one that is conditional itself.
SPACE = {
    "kind": hp.categorical("sgd", "adam"),
    "momentum": hp.conditional(hp.bounded(0.0, 0.8), kind="sgd"),
    "depth": hp.integer(1, 3),
    "widths": {
        "second": hp.conditional(hp.categorical(4, 8, 16), depth=[2, 3]),
        "third": hp.conditional(hp.categorical(4, 8), depth=3),
    },
    "bound": hp.conditional(hp.log(1e-4, 1.0), **{"widths.third": 8, "kind": "sgd"}),
}
# kind, depth, third -> momentum, second, third and bound are active.
TABLE = [
    ("sgd", 1, 1, (1, 0, 0, 0)),
    ("sgd", 2, 1, (1, 1, 0, 0)),
    ("sgd", 3, 0, (1, 1, 1, 0)),
    ("sgd", 3, 1, (1, 1, 1, 1)),
    ("adam", 3, 1, (0, 1, 1, 0)),
    ("adam", 1, 1, (0, 0, 0, 0)),
]


def codes():
    """λ of the table, unconstrained, with one value in each array for all that has no column."""
    kinds, depths, thirds, _ = zip(*TABLE, strict=True)
    some = jnp.full(len(TABLE), 0.7)
    return {
        "kind": jnp.array([["sgd", "adam"].index(kind) for kind in kinds], float),
        "momentum": jnp.stack([some, some + 1], axis=1),  # an array of two
        "depth": jnp.array(depths, float),
        "widths": {"second": 0 * some, "third": jnp.array(thirds, float)},
        "bound": {"upper": some, "lower": some},  # a branch of two
    }


def test_what_is_active_by_hand():
    found = hp.active(SPACE, codes())
    by_hand = np.array([row[-1] for row in TABLE], bool).T
    for leaf in found["momentum"].T:
        np.testing.assert_array_equal(leaf, by_hand[0])
    np.testing.assert_array_equal(found["widths"]["second"], by_hand[1])
    np.testing.assert_array_equal(found["widths"]["third"], by_hand[2])
    for leaf in found["bound"].values():
        np.testing.assert_array_equal(leaf, by_hand[3])
    assert found["kind"].all()


def test_draws_are_the_middle_of_the_prior_where_inactive():
    like = jax.tree.map(lambda leaf: leaf[0], codes())
    keys = jax.random.split(jax.random.key(0), 100)
    draw = jax.jit(jax.vmap(lambda key: hp.sample(key, SPACE, like)))
    drawn = hp.decode(SPACE, draw(keys))
    adam = np.asarray(drawn["kind"]) == 1
    middle = np.full((adam.sum(), 2), 0.4, np.float32)
    np.testing.assert_allclose(drawn["momentum"][adam], middle, rtol=1e-6)
    assert len(np.unique(drawn["momentum"][~adam])) == 2 * (~adam).sum()
    bound = ~adam & (np.asarray(drawn["depth"]) == 3) & (np.asarray(drawn["widths"]["third"]) == 1)
    np.testing.assert_allclose(drawn["bound"]["upper"][~bound], 1e-2, rtol=1e-5)
    assert bound.any()
    assert not np.any(np.isclose(drawn["bound"]["upper"][bound], 1e-2, rtol=1e-5))


def test_descriptions_tell_what_is_inactive():
    values = {"kind": "adam", "momentum": 0.3, "depth": 2, "widths": {"second": 16, "third": 4}}
    assert hp.describe(SPACE, {**values, "bound": 1e-3}) == (
        "bound inactive, depth 2, kind adam, momentum inactive, widths.second 16, "
        "widths.third inactive"
    )


def test_conditions_add_up_and_several_choices_may_be_any_sequence():
    both = hp.conditional(hp.conditional(hp.log(), kind="sgd"), depth=3)
    assert both == hp.conditional(hp.log(), kind="sgd", depth=3)
    space = {**SPACE, "more": hp.conditional(hp.log(), depth=range(2, 4))}
    like = {**codes(), "more": jnp.zeros(len(TABLE))}
    active = hp.active(space, like)
    np.testing.assert_array_equal(active["more"], active["widths"]["second"])


def test_a_choice_that_is_a_tuple_is_one_choice():
    space = {
        "layers": hp.categorical((64,), (64, 64), (64, 64, 64)),
        "one": hp.conditional(hp.real(), layers=(64, 64)),
        "several": hp.conditional(hp.real(), layers=[(64,), (64, 64)]),
    }
    active = hp.active(
        space, {"layers": jnp.arange(3.0), "one": jnp.zeros(3), "several": jnp.zeros(3)}
    )
    assert active["one"].tolist() == [False, True, False]
    assert active["several"].tolist() == [True, True, False]


def test_conditions_on_functions_are_texts_in_files():
    space = {"act": hp.categorical(jax.nn.relu, jnp.tanh), "slope": hp.log(1e-3, 1.0)}
    space["slope"] = hp.conditional(space["slope"], act=jnp.tanh)
    written = as_text(space)
    assert "where=(('act', ('tanh',)),)" in str(written["slope"])
    like = {"act": jnp.arange(2.0), "slope": jnp.zeros(2)}
    for each in (space, written):
        assert hp.active(each, like)["slope"].tolist() == [False, True]
    assert as_text(written) == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": hp.conditional(hp.log(), kin="sgd")}, "conditional on 'kin', but the space"),
        (
            {"momentum": hp.conditional(hp.log(), kind="rms")},
            "'rms', .* its choices are 'sgd', 'ad",
        ),
        ({"momentum": hp.conditional(hp.log(), depth=4)}, "being 4, .* its choices are 1 to 3"),
        ({"momentum": hp.conditional(hp.log(), bound=1.0)}, r"on bound, a log\(\); conditions are"),
        (
            {
                "kind": hp.conditional(hp.categorical("sgd", "adam"), depth=1),
                "depth": hp.conditional(hp.integer(1, 3), kind="sgd"),
            },
            "conditions of (kind, depth|depth, kind) go round in a circle",
        ),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        hp.active({**SPACE, **changes}, codes())


def test_what_makes_no_condition_is_refused():
    with pytest.raises(TypeError, match=r"a spec first, such as bounded\(0.0, 0.99\), got 0.9"):
        hp.conditional(0.9, kind="sgd")
    with pytest.raises(ValueError, match="needs a condition, such as kind='sgd'"):
        hp.conditional(hp.log())
    with pytest.raises(ValueError, match="needs a choice of kind or more"):
        hp.conditional(hp.log(), kind=())


def test_gradient_methods_refuse_them():
    with pytest.raises(ValueError, match=r"cannot move .*momentum \(conditional\).*black-box"):
        hp.require_differentiable({"momentum": hp.conditional(hp.log(), kind="sgd")})
