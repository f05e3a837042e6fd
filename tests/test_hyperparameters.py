"""The typed space against its formulas, and its distributions against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributions import DRAWS, assert_follows
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from shohypernet import hyperparameters as hp

# --- bijections -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "unconstrained", "value"),
    [
        (hp.real(), -2.5, -2.5),
        (hp.log(), np.log(1e-3), 1e-3),
        (hp.log(prior=(1.0, 2.0)), np.log(1e-3), 1e-3),
        (hp.log(0.01, 100.0), 0.0, 1.0),
        (hp.log(1.0, 16.0), np.log(3.0), 8.0),  # sigmoid(log 3) is 3/4
        (hp.bounded(2.0, 6.0), 0.0, 4.0),
        (hp.bounded(2.0, 6.0), np.log(3.0), 5.0),  # sigmoid(log 3) is 3/4
        (hp.integer(-1, 5), 3.0, 3),
        (hp.categorical("relu", "tanh", "gelu"), 2.0, 2),
    ],
    ids=lambda part: getattr(part, "kind", None),
)
def test_decode_and_encode_by_hand(spec, unconstrained, value):
    np.testing.assert_allclose(hp.decode(spec, jnp.float32(unconstrained)), value, rtol=1e-6)
    np.testing.assert_allclose(hp.encode(spec, value), unconstrained, rtol=1e-6, atol=1e-6)


# As many numbers each time, so that JAX compiles once.
vectors = st.lists(st.floats(-8, 8), min_size=3, max_size=3).map(np.array)
bounds = st.tuples(st.floats(-100, 100), st.floats(0.01, 100))


@settings(deadline=None, derandomize=True)
@given(unconstrained=vectors, bounds=bounds)
def test_encode_undoes_decode(unconstrained, bounds):
    low, width = bounds
    with jax.enable_x64(True):
        space = {
            "real": hp.real(),
            "log": hp.log(),
            "bounded log": hp.log(width, width * 1e4),
            "bounded": hp.bounded(low, low + width),
        }
        there = hp.decode(space, dict.fromkeys(space, jnp.asarray(unconstrained)))
        assert np.all(there["log"] > 0)
        assert np.all((width < there["bounded log"]) & (there["bounded log"] < width * 1e4))
        assert np.all((low < there["bounded"]) & (there["bounded"] < low + width))
        # At worst low is 1e4 widths off, and the sigmoid's slope at ±8 is 3e-4.
        for back in hp.encode(space, there).values():
            np.testing.assert_allclose(back, unconstrained, atol=1e-7)


# Up to the largest numbers of float32, which are what a method may drive λ̂ to.
singles = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3
).map(lambda numbers: np.array(numbers, np.float32))
finite = st.floats(-1e6, 1e6, width=32)
# With 1,000 numbers in between, that XLA doesn't take for zero.
bounds = st.lists(finite, min_size=2, max_size=2, unique=True).filter(
    lambda ends: abs(ends[0] - ends[1]) >= max(2e-4 * max(map(abs, ends)), 2e-35)
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(unconstrained=singles, ends=bounds)
def test_values_stay_within_bounds_and_in_order_wherever_lambda_goes(unconstrained, ends):
    low, high = sorted(ends)
    spec = hp.bounded(low, high)
    ascending = np.sort(unconstrained)
    values = np.asarray(hp.decode(spec, jnp.asarray(ascending)))
    assert np.all((np.float32(low) <= values) & (values <= np.float32(high)))
    assert np.all(np.diff(values) >= 0)
    slopes = jax.grad(lambda x: jnp.sum(hp.decode(spec, x) / np.float32(high - low)))(
        jnp.asarray(ascending)
    )
    assert np.all((slopes >= 0) & (slopes <= 0.26))


# Ratios of bounds up to what float32 holds in between.
positive = st.floats(np.float32(1e-18), np.float32(1e18), width=32)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    unconstrained=singles,
    ends=st.lists(positive, min_size=2, max_size=2).filter(
        lambda ends: max(ends) > 1.01 * min(ends)
    ),
)
@example(unconstrained=np.float32([-1e3, 0, 1e3]), ends=[1e-18, 1e18])
@example(unconstrained=np.float32([-1e3, 0, 1e3]), ends=[0.05, 6.0])
def test_a_bounded_logarithm_stays_within_bounds_and_in_order_too(unconstrained, ends):
    low, high = sorted(ends)
    spec = hp.log(low, high)
    ascending = np.sort(unconstrained)
    values = np.asarray(hp.decode(spec, jnp.asarray(ascending)))
    assert np.all((np.float32(low) <= values) & (values <= np.float32(high)))
    assert np.all(np.diff(values) >= 0)
    slopes = jax.grad(lambda x: jnp.sum(hp.decode(spec, x)))(jnp.asarray(ascending))
    # d value / dλ = value · log(high / low) · σ(1 − σ)
    assert np.all((slopes >= 0) & (slopes <= 0.26 * values * np.log(high / low)))


@pytest.mark.parametrize(
    "spec", [hp.log(), hp.log(0.05, 6.0), hp.log(1e-8, 1e8), hp.bounded(-2.0, 5.0)]
)
def test_gradients_are_slopes_by_finite_differences(spec, float64):
    points, width = np.linspace(-6, 6, 9), 1e-5
    found = jax.grad(lambda x: jnp.sum(hp.decode(spec, x)))(jnp.asarray(points))
    ends = (np.asarray(hp.decode(spec, jnp.asarray(points + sign * width))) for sign in (1, -1))
    slopes = np.subtract(*ends) / (2 * width)
    np.testing.assert_allclose(found, slopes, rtol=1e-6)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(singles)
def test_a_logarithm_keeps_order_and_its_slope_is_its_value(unconstrained):
    ascending = np.sort(unconstrained)
    values = np.asarray(hp.decode(hp.log(), jnp.asarray(ascending)))
    assert np.all(values[1:] >= values[:-1])
    assert np.all(values >= 0)
    slopes = jax.grad(lambda x: jnp.sum(hp.decode(hp.log(), x)))(jnp.asarray(ascending))
    np.testing.assert_array_equal(slopes, values)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1e-30, 1e30), st.floats(2.0, 1e6))
def test_values_from_anywhere_within_bounds_come_back(low, ratio):
    """In float32: λ = log v of up to 70 is rounded to a part in 10⁷, and v = exp λ to 70 such."""
    values = np.float32([low, low * ratio**0.5, low * ratio])
    np.testing.assert_allclose(hp.decode(hp.log(), hp.encode(hp.log(), values)), values, rtol=1e-5)
    logs = hp.log(low / 2, low * ratio * 2)
    np.testing.assert_allclose(hp.decode(logs, hp.encode(logs, values)), values, rtol=2e-5)
    spread = low * ratio
    inside = hp.bounded(-spread, spread)
    some = np.float32(spread) * np.float32([-0.999, -0.1, 0.0, 0.5, 0.999])
    back = hp.decode(inside, hp.encode(inside, some))
    np.testing.assert_allclose(back, some, rtol=1e-5, atol=1e-6 * spread)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_integers_are_the_nearest_within_bounds(codes):
    values = hp.decode(hp.integer(-2, 7), jnp.asarray(codes, jnp.float32))
    assert values.dtype == jnp.int32
    np.testing.assert_array_equal(values, np.clip(np.rint(np.float32(codes)), -2, 7))


@pytest.mark.parametrize("value", [2, np.int32(2), np.arange(3), 2.0])
@pytest.mark.parametrize("spec", [hp.real(), hp.integer(0, 5)], ids=["real", "integer"])
def test_encoded_values_are_floating_point(spec, value):
    """A gradient or a perturbation can move no integers."""
    assert jnp.issubdtype(hp.encode(spec, value).dtype, jnp.floating)


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (hp.real(), np.nan),
        (hp.real(), np.inf),
        (hp.log(), 0.0),
        (hp.log(), -1.0),
        (hp.log(), np.array([1.0, 0.0])),
        (hp.log(1e-3, 1.0), 1e-3),
        (hp.log(1e-3, 1.0), 1.0),
        (hp.log(1e-3, 1.0), 2.0),
        (hp.log(1e-3, 1.0), np.log(1e-2)),
        (hp.bounded(0.0, 0.9), 0.0),
        (hp.bounded(0.0, 0.9), 0.9),
        (hp.bounded(0.0, 0.9), np.array([[0.5], [1.0]])),
        (hp.integer(1, 5), 0),
        (hp.integer(1, 5), np.array([5, 6])),
        (hp.categorical("relu", "tanh"), 2),
        (hp.categorical("relu", "tanh"), "gelu"),
        (hp.categorical("relu", "tanh"), np.array(["tanh", "gelu"])),
        (hp.categorical(1, 2), 0),
    ],
    ids=lambda part: getattr(part, "kind", str(part)),
)
def test_values_out_of_range_are_refused(spec, value):
    with pytest.raises(ValueError, match=rf"inside the range of its {spec.kind}\(\)"):
        hp.encode({"entry": spec}, {"entry": value})


@pytest.mark.parametrize(
    ("choices", "value", "indices"),
    [
        (("relu", "tanh", "gelu"), "gelu", 2),
        (("relu", "tanh", "gelu"), np.array(["tanh", "relu"]), [1, 0]),
        (("relu", "tanh", "gelu"), np.array([2, 0]), [2, 0]),
        (("relu", 3, None), 3, 1),
        # Of numbers, only what `decode` returns is taken for indices.
        ((1, 2, 4), 2, 1),
        ((1, 2, 4), np.array([4, 1]), [2, 0]),
        ((1, 2, 4), jnp.array([2, 0]), [2, 0]),
        ((True, False), False, 1),
        # Trees of their own, and functions.
        (((64,), (64, 64), None), (64, 64), 1),
        (((64,), (64, 64), None), None, 2),
        ((jnp.tanh, jax.nn.relu), jax.nn.relu, 1),
    ],
)
def test_categories_are_encoded_by_name(choices, value, indices):
    spec = hp.categorical(*choices)
    encoded = hp.encode({"choice": spec}, {"choice": value})["choice"]
    assert jnp.issubdtype(encoded.dtype, jnp.floating)
    np.testing.assert_array_equal(encoded, indices)
    np.testing.assert_array_equal(hp.encode(spec, hp.decode(spec, encoded)), encoded)


def test_a_branch_of_choices_is_a_tree_of_them():
    spec = hp.categorical((64,), (64, 64))
    found = hp.encode({"widths": spec}, {"widths": {"one": (64,), "two": [(64, 64), (64,)]}})
    assert jax.tree.map(float, found) == {"widths": {"one": 0.0, "two": [1.0, 0.0]}}


# --- prefix trees -----------------------------------------------------------------------------

SPACE = {"decay": hp.log(), "dropout": hp.bounded(0.0, 1.0)}
VALUES = {
    "decay": {"kernel": np.array([[0.01, 0.1]]), "bias": np.array(1.0)},
    "dropout": [np.array(0.5), np.array([0.25])],
}


def test_a_spec_stands_for_all_below_it():
    unconstrained = hp.encode(SPACE, VALUES)
    expected = {
        "decay": {"kernel": np.log([[0.01, 0.1]]), "bias": np.array(0.0)},
        "dropout": [np.array(0.0), np.array([-np.log(3.0)])],
    }
    assert jax.tree.structure(unconstrained) == jax.tree.structure(expected)
    for tree, like in ((unconstrained, expected), (hp.decode(SPACE, unconstrained), VALUES)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), tree, like
        )


def test_one_spec_may_stand_for_the_whole_tree():
    decoded = hp.decode(hp.log(), {"a": jnp.zeros(2), "b": (jnp.zeros(()),)})
    assert jax.tree.map(np.shape, decoded) == {"a": (2,), "b": ((),)}
    assert all(np.all(leaf == 1) for leaf in jax.tree.leaves(decoded))


@pytest.mark.parametrize(
    "function",
    [hp.decode, hp.encode, lambda *trees: hp.sample(jax.random.key(0), *trees), hp.describe],
    ids=["decode", "encode", "sample", "describe"],
)
def test_a_space_of_other_names_is_refused(function):
    message = (
        r"the space {'decay': 'log', 'dropout': 'bounded'} doesn't fit hyperparameters of shapes "
        r"{'decay': \(\), 'drop': \(2,\)}; it needs one spec for each"
    )
    with pytest.raises(ValueError, match=message):
        function(SPACE, {"decay": 0.5, "drop": jnp.zeros(2)})


@pytest.mark.parametrize("start", [-7.0, np.array([0.1, np.log(0.1)])])
def test_a_start_in_logarithms_is_answered_with_the_natural_one(start):
    with pytest.raises(ValueError, match=r"in natural units \(a decay of 3e-4, not its logarithm"):
        hp.encode({"decay": hp.log()}, {"decay": start})


def test_describe():
    space = {
        **SPACE,
        "layers": hp.integer(1, 8),
        "activation": hp.categorical("relu", "tanh"),
    }
    values = {
        "decay": jnp.array([[1e-3, 1e-2], [1e-2, 5.0]]),
        "dropout": {"first": 0.5},
        "layers": jnp.array(3),
        "activation": jnp.array([1, 0]),
    }
    assert hp.describe(space, values) == (
        "activation tanh relu, decay 0.01 [0.001, 5], dropout.first 0.5, layers 3"
    )
    assert hp.describe(hp.bounded(0.0, 1.0), jnp.array(0.5, jnp.bfloat16)) == "0.5"
    assert hp.describe({"b": hp.log(), "w": hp.log()}, {"b": 1.0, "w": jnp.arange(1, 22)}) == (
        "b 1\nw 11 [2, 20] █▅█▅█▅█▅█▅██ of 21"
    )
    assert hp.describe([hp.categorical(1, 2), hp.categorical("a", "b")], [2, "a"]) == "0 2, 1 a"


def test_require_differentiable():
    hp.require_differentiable(SPACE)
    mixed = {**SPACE, "net": {"layers": hp.integer(1, 8), "act": hp.categorical("relu", "tanh")}}
    with pytest.raises(ValueError, match=r"net.layers \(integer\)") as caught:
        hp.require_differentiable(mixed)
    assert "net.act (categorical)" in str(caught.value)
    assert "decay" not in str(caught.value)
    with pytest.raises(ValueError, match=r"the space \(integer\)"):
        hp.require_differentiable(hp.integer(1, 8))


# --- priors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "prior"),
    [
        (hp.real(2.0, 0.5), stats.norm(2.0, 0.5)),
        (hp.log(), stats.loguniform(1e-6, 1e2)),
        (hp.log(prior=(1e-4, 1e1)), stats.loguniform(1e-4, 1e1)),
        (hp.log(1e-4, 1e1), stats.loguniform(1e-4, 1e1)),
        (hp.bounded(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    ],
    ids=["real", "log", "log with a prior", "log with bounds", "bounded"],
)
def test_priors_in_natural_units(spec, prior, key):
    values = hp.decode(spec, hp.sample(key, spec, jnp.zeros(DRAWS)))
    assert_follows(values, prior)
    low, high = prior.support()
    assert low * (1 - 1e-5) - 1e-5 <= values.min()
    assert values.max() <= high * (1 + 1e-5)


@pytest.mark.parametrize(
    ("spec", "values"),
    [(hp.integer(-1, 3), [-1, 0, 1, 2, 3]), (hp.categorical("a", "b", "c"), [0, 1, 2])],
    ids=["integer", "categorical"],
)
def test_priors_of_whole_numbers(spec, values, key):
    unconstrained = hp.sample(key, spec, jnp.zeros(DRAWS))
    drawn, counts = np.unique(hp.decode(spec, unconstrained), return_counts=True)
    assert drawn.tolist() == values
    assert stats.chisquare(counts).pvalue > 1e-3


def test_samples_have_the_form_asked_and_differ_between_leaves(key):
    like = {"decay": {"kernel": jnp.zeros((2, 3)), "bias": 0.0}, "dropout": [jnp.zeros((2, 3))]}
    drawn = hp.sample(key, {"decay": hp.real(), "dropout": hp.real()}, like)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, like)
    assert len(np.unique(np.concatenate(list(map(np.ravel, jax.tree.leaves(drawn)))))) == 13


# --- bad arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("real", (0.0, 0.0)),
        ("real", (0.0, -1.0)),
        ("real", (0.0, np.nan)),
        ("log", (0.0, 1.0)),
        ("log", (-1.0, 1.0)),
        ("log", (1.0, 1.0)),
        ("log", (1.0, np.inf)),
        ("log", (1.0,)),
        ("log", (None, 1.0)),
        ("bounded", (1.0, 1.0)),
        ("bounded", (0.0, np.inf)),
        ("bounded", (np.nan, 1.0)),
        ("integer", (3, 3)),
        ("categorical", ()),
        ("categorical", ("only",)),
        ("categorical", ("relu", "relu")),
    ],
)
def test_bad_arguments_are_refused(name, arguments):
    with pytest.raises(ValueError, match=rf"^{name}\(\) needs"):
        getattr(hp, name)(*arguments)


@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.0, 1.0), (2.0, np.inf)])
def test_bad_priors_are_refused(prior):
    with pytest.raises(ValueError, match=r"^log\(\) needs 0 < low < high"):
        hp.log(prior=prior)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("log", 1e-50, 1.0),
        ("log", 1.0, 1e39),
        ("log", 1e6, 1e6 + 1),
        ("bounded", 1e6, 1e6 + 1),
        ("bounded", 0.0, 1e-40),
        ("bounded", -3e38, 3e38),
        ("real", 1e6, 0.01),  # loc and scale
        ("real", 0.0, 1e38 * 2),
    ],
)
def test_ranges_that_float32_cannot_hold_are_refused(name, low, high):
    with pytest.raises(ValueError, match=rf"^{name}\(\) needs .*float32"):
        getattr(hp, name)(low, high)
    if name == "log":
        with pytest.raises(ValueError, match=r"^log\(\) needs .*float32"):
            hp.log(prior=(low, high))


@pytest.mark.parametrize(
    "spec",
    [
        hp.log(2e-38, 3e38),
        hp.log(prior=(2e-38, 3e38)),
        hp.log(1.0, 1.001),
        hp.bounded(1e6, 1e6 + 100),
        hp.bounded(0.0, 2e-35),
        hp.real(1e6, 20.0),
        hp.real(0.0, 1e37),
    ],
)
def test_draws_of_the_ranges_that_are_left_differ_and_are_finite(spec):
    unconstrained = hp.sample(jax.random.key(0), spec, jnp.zeros(100))
    values = np.asarray(hp.decode(spec, unconstrained))
    assert np.all(np.isfinite(unconstrained))
    assert np.all(np.isfinite(values))
    assert len(np.unique(values)) > 80  # of 1,000 numbers 100 draws take 95 or so


def test_bounds_and_a_prior_at_once_are_refused():
    with pytest.raises(ValueError, match=r"^log\(\) needs both bounds and no prior, or a prior"):
        hp.log(1.0, 2.0, prior=(1.0, 2.0))
