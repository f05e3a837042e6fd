"""The unit cube against SciPy's distributions, and values at the bounds of their specs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from shohypernet import hyperparameters as hp
from shohypernet.search._unit_cube import unit_cube

MIXED = {
    "decay": hp.log(1e-4, 1.0),
    "layers": hp.integer(1, 4),
    "act": hp.categorical("relu", "tanh"),
}
LIKE = {"decay": np.zeros(2), "layers": np.zeros(()), "act": np.zeros(())}


@pytest.mark.parametrize(
    ("spec", "prior"),
    [
        (hp.real(2.0, 0.5), stats.norm(2.0, 0.5)),
        (hp.log(1e-4, 1e1), stats.loguniform(1e-4, 1e1)),
        (hp.log(prior=(1e-4, 1e1)), stats.loguniform(1e-4, 1e1)),
        (hp.bounded(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
        (hp.integer(-1, 3), stats.randint(-1, 4)),
        (hp.categorical("a", "b", "c"), stats.randint(0, 3)),
    ],
    ids=lambda part: getattr(part, "kind", ""),
)
def test_quantiles_are_those_of_the_priors(spec, prior):
    units = np.array([0.01, 0.19, 0.3, 0.5, 0.77, 0.99])
    values = hp.decode(spec, spec.quantile(jnp.asarray(units, jnp.float32)))
    np.testing.assert_allclose(values, prior.ppf(units), rtol=2e-5)


def test_coordinates_are_named_and_laid_out_as_the_tree():
    cube = unit_cube(MIXED, LIKE)
    assert cube.names == ["act", "decay[0]", "decay[1]", "layers"]
    assert cube.continuous.tolist() == [False, True, True, False]
    points = np.array([[0.75, 0.0, 0.5, 0.3], [0.25, 0.25, 1.0, 0.99]])
    values = hp.decode(MIXED, cube.hyperparams(points))
    assert values["act"].tolist() == [1, 0]
    assert values["layers"].tolist() == [2, 4]
    np.testing.assert_allclose(values["decay"], [[1e-4, 1e-2], [1e-3, 1.0]], rtol=2e-5)
    assert unit_cube(hp.real(), np.zeros((1, 2))).names == ["value[0][0]", "value[0][1]"]


@pytest.mark.parametrize(
    ("spec", "values", "rtol"),
    [
        (hp.log(1e-4, 1.0), [1e-4, 1e-2, 1.0], 1e-5),
        (hp.log(0.05, 6.0), [0.05, 6.0], 1e-5),
        (hp.log(1e-30, 1e30), [1e-30, 1.0, 1e30], 2e-4),
        (hp.log(prior=(1e-4, 1.0)), [1e-4, 1.0], 1e-5),
        (hp.bounded(-1.0, 3.0), [-1.0, 0.5, 3.0], 1e-5),
        (hp.bounded(0.1, 0.7), [0.1, 0.7], 1e-5),
        # One of float32 next to 1,000.3 is 6e-5 away.
        (hp.bounded(1000.3, 1001.4), [1000.3, 1001.4], 2e-7),
        (hp.integer(1, 4), [1, 4], 0),
        (hp.categorical("a", "b", "c"), [0, 2], 0),
        (hp.real(), [-7.0, 7.0], 0),
    ],
    ids=str,
)
def test_natural_values_at_their_bounds_are_encoded_and_come_back(spec, values, rtol):
    cube = unit_cube([spec], [np.zeros(())])
    (code,) = cube.encode(np.array(values)[:, None])
    assert np.all(np.isfinite(code))
    np.testing.assert_allclose(hp.decode(spec, code), values, rtol=rtol)
    if np.isfinite(spec.bounds).all():
        low, high = np.float32(spec.bounds)
        decoded = np.asarray(hp.decode(spec, code))
        assert np.all((low * (1 - 1e-6) <= decoded) & (decoded <= high * (1 + 1e-6)))


def test_the_ends_of_the_unit_cube_are_finite_and_within_bounds():
    space = [hp.log(1e-4, 1.0), hp.bounded(-1.0, 3.0), hp.integer(1, 4), hp.real(), hp.log()]
    cube = unit_cube(space, [np.zeros(())] * 5)
    there = cube.hyperparams(np.array([[0.0] * 5, [1.0] * 5]))
    assert all(np.all(np.isfinite(leaf)) for leaf in there)
    values = np.stack(hp.decode(space, there))
    np.testing.assert_allclose(values[:3], [[1e-4, 1.0], [-1.0, 3.0], [1, 4]], rtol=2e-5)
    # What is inside the bounds is encoded again, as a user may.
    back = hp.encode(space, hp.decode(space, there))
    np.testing.assert_allclose(back[0], there[0], rtol=0.1)


@pytest.mark.parametrize("x64", [False, True])
def test_coordinates_have_the_default_precision(x64):
    with jax.enable_x64(x64):
        cube = unit_cube(hp.log(1e-4, 1.0), np.zeros(2, np.float32))
        for code in (cube.hyperparams(np.full((3, 2), 0.5)), cube.encode(np.full((3, 2), 0.5))):
            assert code.dtype == (np.float64 if x64 else np.float32)


def test_points_of_one_lambda_have_the_same_features():
    cube = unit_cube(MIXED, LIKE)
    points = np.array([[0.6, 0.1, 0.2, 0.3], [0.9, 0.1, 0.2, 0.4], [0.1, 0.1, 0.2, 0.8]])
    features = cube.features(points)
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_allclose(features[0], [0, 2**-0.5, 0.1, 0.2, 0.375])
    assert np.linalg.norm(features[0, :2] - features[2, :2]) == pytest.approx(1.0)
