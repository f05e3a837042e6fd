"""Where hypernets start, without a scale for φ: at the model's weights, with a small response."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import shohypernet as shn
from shohypernet.hypernets import elementwise, factorized, gated, linear, mlp, structured

SGD = optax.sgd(0.1)
rng = np.random.default_rng(0)
PARAMS = {"kernel": np.float32(rng.normal(size=(40, 50))), "bias": jnp.zeros(50)}
DECAYS = jax.tree.map(lambda leaf: jnp.full(leaf.shape, -7.0), PARAMS)
BUILDERS = {
    "mlp": lambda: mlp((40,)),
    "linear": linear,
    "factorized": factorized,
    "structured": structured,
    "elementwise": elementwise,
    "gated": gated,
}
every_hypernet = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0], float)


@every_hypernet
def test_the_weights_at_the_start_are_the_model_s(build, key):
    """Also of as many hyperparameters as weights, all far from 0."""
    hypernet = build()
    phi = jax.jit(hypernet.init)(key, PARAMS, DECAYS)
    made = hypernet.apply(phi, DECAYS)
    np.testing.assert_allclose(flat(made), flat(PARAMS), atol=1e-6)


@every_hypernet
def test_the_response_is_a_hundredth_of_the_weights(build, key):
    hypernet = build()
    phi = jax.jit(hypernet.init)(key, PARAMS, DECAYS)
    noise = np.random.default_rng(1)
    near = jax.tree.map(lambda leaf: leaf + np.float32(noise.normal(size=leaf.shape)), DECAYS)
    moved = np.linalg.norm(flat(hypernet.apply(phi, near)) - flat(PARAMS))
    # Gates halve it, a perceptron's ReLUs take and its biases add some.
    assert 0.003 < moved / np.linalg.norm(flat(PARAMS)) < 0.03


@every_hypernet
def test_where_training_starts_is_no_matter_of_training(build, key):
    """The gradient in λ₀ is zero, so that no optimizer moves it."""
    hypernet = build()
    phi = hypernet.init(key, PARAMS, DECAYS)
    slope = jax.grad(lambda phi: optax.tree.sum(hypernet.apply(phi, DECAYS)))(phi)
    assert not np.any(flat(slope.start))
    assert np.any(flat(slope.response))


def test_weights_that_are_zero_respond_all_the_same(key):
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    hypernet = linear()
    phi = hypernet.init(key, zeros, jnp.float32(2.0))
    assert not np.any(flat(hypernet.apply(phi, jnp.float32(2.0))))
    assert np.std(flat(hypernet.apply(phi, jnp.float32(3.0)))) == pytest.approx(0.01, rel=0.1)


def test_shapes_alone_are_no_start(key):
    shapes = jax.eval_shape(lambda: PARAMS)
    with pytest.raises(ValueError, match=r"starts from the model's weights, but got their shapes"):
        linear().init(key, shapes, jnp.zeros(2))
    linear(init_scale=0.01).init(key, shapes, jnp.zeros(2))


def test_a_run_starts_at_a_draw_of_the_model_s_weights(key):
    """Whatever λ: with weights of 3 in place of a draw, the first loss is that of 3."""
    problem = shn.Problem(
        init=lambda key: {"w": jnp.full(5, 3.0)},
        train_loss=lambda w, lam, x, key: jnp.sum((w["w"] - x) ** 2) + lam * jnp.sum(w["w"] ** 2),
        valid_loss=lambda w, lam, x: jnp.sum((w["w"] - x) ** 2),
        space=shn.hyperparameters.log(),
    )
    options = {"hypernet_optimizer": SGD, "hyper_optimizer": SGD}
    for method in (
        shn.local_response(
            problem, structured(), sampler=shn.samplers.local_gaussian(0.1), **options
        ),
        shn.simultaneous(problem, factorized(), **options),
    ):
        state = method.init(key, jnp.float32(-7.0))
        np.testing.assert_allclose(method.weights(state)["w"], 3.0, rtol=1e-6)


def test_self_tuning_starts_at_the_model_s_weights_in_either_form(key):
    model = nn.Dense(3, kernel_init=nn.initializers.constant(0.5))
    problem = shn.supervised(
        model,
        jnp.zeros((1, 2)),
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    for linearized in (True, False):
        method = shn.self_tuning(problem, optimizer=SGD, hyper_optimizer=SGD, linearized=linearized)
        state = method.init(key, jnp.float32(-7.0))
        np.testing.assert_allclose(method.weights(state)["kernel"], 0.5, rtol=1e-6)
        moved = method.weights_at(state, jnp.float32(5.0))["kernel"]
        assert np.all(moved == 0.5) == linearized  # which responds to nothing yet
