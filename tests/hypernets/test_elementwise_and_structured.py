"""Responses weight by weight and unit by unit, against products by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.hypernets import elementwise, gated, structured

PARAMS = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}


def test_elementwise_moves_each_weight_by_its_own_hyperparameter(random_phi):
    hypernet = elementwise(init_scale=1.0)
    hyperparams = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.float32(2)}
    phi = random_phi(hypernet, PARAMS, hyperparams)
    made = hypernet.apply(phi, hyperparams)
    for name, value in hyperparams.items():
        expected = phi.slope[name] * value + phi.offset[name]
        np.testing.assert_allclose(made[name], expected, rtol=1e-6)


def test_elementwise_refuses_hyperparameters_of_another_shape(key):
    hypernet = elementwise()
    hyperparams = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(())}
    with pytest.raises(ValueError, match=r"shape \(3, 2\) .* weights of shape \(2, 3\)"):
        hypernet.init(key, PARAMS, hyperparams)
    with pytest.raises(ValueError, match="1 arrays of weights have no hyperparameter"):
        hypernet.init(key, PARAMS, {"kernel": jnp.zeros(())})


def test_structured_is_mackay_s_layer(random_phi):
    """y = W x + b + (Uλ) ∘ (V x) + (Cλ) ∘ c."""
    hypernet = structured(init_scale=1.0)
    hyperparams = np.array([0.5, -2.0], np.float32)
    phi = random_phi(hypernet, PARAMS, hyperparams)
    (b, w), (c, v), (c_gate, u) = ((tree["bias"], tree["kernel"]) for tree in phi)
    x = np.array([1.0, -3.0], np.float32)
    expected = x @ w + b + (hyperparams @ u) * (x @ v) + (hyperparams @ c_gate) * c
    made = hypernet.apply(phi, hyperparams)
    np.testing.assert_allclose(x @ made["kernel"] + made["bias"], expected, rtol=1e-5)


@pytest.mark.parametrize("build", [elementwise, structured])
def test_phi_starts_small_and_random(build, key):
    params = {"w": jnp.zeros((40, 50))}
    phi = build(init_scale=0.3).init(key, params, params)
    for leaf in jax.tree.leaves(phi):
        assert np.std(leaf) == pytest.approx(0.3, rel=0.1)
    with pytest.raises(ValueError, match="floating-point"):
        build().init(key, {"w": jnp.zeros(3, int)}, {"w": jnp.zeros(3)})


def test_gates_lie_between_nothing_and_twice_the_weights(random_phi):
    """Of pre-activations, as in the paper: a kernel and a bias each have one for an output."""
    hypernet = gated(init_scale=1.0)
    hyperparams = np.array([0.5, -2.0], np.float32)
    phi = random_phi(hypernet, PARAMS, hyperparams)
    made = hypernet.apply(phi, hyperparams)
    for name in PARAMS:
        opened = 2 / (1 + np.exp(-(hyperparams @ phi.gate[name] + phi.bias[name])))
        np.testing.assert_allclose(made[name], phi.weights[name] * opened, rtol=1e-5)
    far = hypernet.apply(phi, 1e6 * hyperparams)
    twice = jax.tree.map(lambda leaf: 2 * np.abs(leaf), phi.weights)
    jax.tree.map(
        lambda made, most: np.testing.assert_array_less(np.abs(made), most + 1e-6), far, twice
    )
