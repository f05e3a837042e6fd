"""Priors against SciPy and quadrature, and drawn weights against their moments by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from shohypernet import hyperparameters
from shohypernet.hypernets import (
    bayesian,
    chunked,
    encoded,
    encodings,
    gaussian_prior,
    linear,
    mixture_prior,
    mlp,
    structured,
)

PARAMS = {"kernel": jnp.zeros((40, 20)), "bias": jnp.zeros(20)}


def mixture_by_scipy(x):
    parts = [stats.norm.logpdf(x, scale=scale) + np.log(0.5) for scale in (1.0, np.exp(-6.0))]
    return special.logsumexp(parts, axis=0)


def test_the_mixture_is_scipy_s_and_does_not_underflow(float64):
    numbers = np.array([0.0, 1e-3, -0.01, 0.05, 3.0, -60.0])
    expected = mixture_by_scipy(numbers)
    assert expected[-1] < -1_800  # whose exponential is 0, also in double precision
    found = mixture_prior().log_density(jnp.asarray(numbers))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    single = mixture_prior().log_density(jnp.float32(numbers))
    np.testing.assert_allclose(single, expected, rtol=1e-4)
    slopes = jax.vmap(jax.grad(mixture_prior().log_density))(jnp.float32(numbers))
    assert slopes[-1] == pytest.approx(60.0)  # that of the wide part, −x


@pytest.mark.parametrize(
    ("prior", "log_density"),
    [
        (gaussian_prior(0.7), lambda x: stats.norm.logpdf(x, scale=0.7)),
        (mixture_prior(), mixture_by_scipy),
    ],
    ids=["gaussian", "mixture"],
)
@pytest.mark.parametrize(("mean", "deviation"), [(0.4, 0.3), (-1.5, 2.0)])
def test_divergences_are_those_by_quadrature(prior, log_density, mean, deviation, float64):
    """The mixture's is a mean over draws, here those of a fine grid, by their density."""

    def integrand(x):
        log_q = stats.norm.logpdf(x, mean, deviation)
        return np.exp(log_q) * (log_q - log_density(x))

    ends = mean - 12 * deviation, mean + 12 * deviation
    near_zero = [-0.05, -0.01, 0.0, 0.01, 0.05]
    expected, _ = integrate.quad(integrand, *ends, points=near_zero, limit=500)
    # Finer near 0, where the mixture's narrow part is a spike.
    drawn = np.union1d(np.linspace(*ends, 20_001), np.linspace(-0.05, 0.05, 20_001))
    each = prior.divergence(*map(jnp.asarray, np.broadcast_arrays(drawn, mean, deviation)))
    density = stats.norm.pdf(drawn, mean, deviation)
    assert np.trapezoid(np.asarray(each) * density, drawn) == pytest.approx(expected, rel=1e-4)


def test_the_mean_is_the_hypernet_inside(random_phi):
    inside, hyperparams = mlp((3,)), jnp.array([0.5, -1.0])
    phi = random_phi(bayesian(inside), PARAMS, hyperparams)
    made = bayesian(inside).apply(phi, hyperparams)
    expected = inside.apply(phi.mean, hyperparams)
    jax.tree.map(np.testing.assert_array_equal, made, expected)


def standardized(phi, drawn):
    """(draw − mean) / log(1 + exp ρ) of every number, by NumPy."""
    leaves = (jax.tree.leaves(tree) for tree in (drawn.mean, phi.mean, phi.rho))
    return np.concatenate(
        [np.ravel((d - m) / np.log1p(np.exp(r))) for d, m, r in zip(*leaves, strict=True)]
    )


def test_draws_are_normal_with_the_posterior_s_moments(key, random_phi):
    hypernet, hyperparams = bayesian(linear(init_scale=0.01)), jnp.array([0.5, -1.0])
    phi = random_phi(hypernet, PARAMS, hyperparams)
    drawn = hypernet.posterior.draw(key, phi)
    assert stats.kstest(standardized(phi, drawn), "norm").pvalue > 1e-3
    jax.tree.map(np.testing.assert_array_equal, drawn.rho, phi.rho)


@pytest.mark.parametrize("hidden", [(), (4,)], ids=["linear", "mlp"])
def test_drawn_outputs_have_the_moments_of_drawn_phi(hidden, key, random_phi):
    """w = hᵀM: its mean is hᵀμ, its variance (h²)ᵀσ², whatever the weight."""
    inside = mlp(hidden, activation=jnp.tanh, init_scale=0.01)
    hypernet, hyperparams = bayesian(inside), np.array([0.5, -1.0], np.float32)
    phi = random_phi(hypernet, PARAMS, hyperparams)
    # The hidden layer stays at its mean, so that all that is drawn is in the last one.
    phi.rho.hidden[:] = jax.tree.map(lambda leaf: np.full_like(leaf, -60.0), phi.rho.hidden)
    made = hypernet.posterior.weights(key, phi, hyperparams)
    inputs = hyperparams
    for kernel, bias in phi.mean.hidden:
        inputs = np.tanh(kernel @ inputs + bias)
    inputs = np.append(inputs, 1.0)
    for name, like in PARAMS.items():
        deviation = np.log1p(np.exp(phi.rho.kernels[name]))
        center = (inputs @ phi.mean.kernels[name]).reshape(like.shape)
        spread = np.sqrt(inputs**2 @ deviation**2).reshape(like.shape)
        numbers = np.ravel((made[name] - center) / spread)
        assert stats.kstest(numbers, "norm").pvalue > 1e-3, name


def test_without_local_draws_weights_are_those_of_one_phi(key, random_phi):
    hyperparams = jnp.array([0.5, -1.0])
    hypernet = bayesian(linear(), local=False)
    phi = random_phi(hypernet, PARAMS, hyperparams)
    expected = hypernet.apply(hypernet.posterior.draw(key, phi), hyperparams)
    made = hypernet.posterior.weights(key, phi, hyperparams)
    jax.tree.map(np.testing.assert_array_equal, made, expected)


@pytest.mark.parametrize("inside", [linear(), mlp((4,)), structured()])
def test_drawn_weights_have_the_form_asked_for(inside, key):
    params = {
        "half": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16),
        "none": jax.ShapeDtypeStruct((0, 2), jnp.float32),
        "one": jax.ShapeDtypeStruct((), jnp.float32),
    }
    hypernet, hyperparams = bayesian(inside), {"a": jnp.zeros(2), "b": jnp.zeros(())}
    phi = jax.eval_shape(hypernet.init, key, params, hyperparams)
    assert jax.eval_shape(hypernet.posterior.weights, key, phi, hyperparams) == params


def test_the_start_is_that_of_the_hypernet_inside_and_as_narrow_as_asked(key):
    hypernet, hyperparams = bayesian(linear(), init_deviation=0.03), jnp.zeros(2)
    phi = hypernet.init(key, PARAMS, hyperparams)
    expected = linear().init(key, PARAMS, hyperparams)
    jax.tree.map(np.testing.assert_array_equal, phi.mean, expected)
    for leaf in jax.tree.leaves(phi.deviation):
        np.testing.assert_allclose(leaf, 0.03, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: bayesian(linear), TypeError, r"call it: shn\.hypernets\.linear\(\)"),
        (lambda: bayesian(linear(), prior=1.0), TypeError, r"gaussian_prior\(1\.0\), got 1\.0"),
        (lambda: bayesian(linear(), init_deviation=0.0), ValueError, "init_deviation .* got 0.0"),
        (lambda: gaussian_prior(0.0), ValueError, "scale to be finite and > 0"),
        (lambda: mixture_prior(narrow=-1.0), ValueError, "narrow to be finite and > 0"),
        (lambda: mixture_prior(weight=1.0), ValueError, "weight between 0 and 1, got 1.0"),
    ],
)
def test_what_is_no_posterior_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("behind", [False, True])
def test_what_a_hypernet_reads_has_no_distribution(behind, key):
    """λ₀ and an encoding's numbers stay, in draws and in the divergence."""
    space = hyperparameters.log(1e-3, 1.0)
    hyperparams = hyperparameters.encode(space, jnp.full(2, 0.1))
    inside = encoded(linear(), encodings.standardized(space)) if behind else linear()
    hypernet, params = bayesian(inside, init_deviation=0.5), {"w": jnp.arange(3.0)}
    phi = hypernet.init(key, params, hyperparams)
    np.testing.assert_allclose(hypernet.apply(phi, hyperparams)["w"], params["w"], atol=1e-6)
    drawn = hypernet.posterior.draw(key, phi)
    kept = [mean.hypernet.start if behind else mean.start for mean in (phi.mean, drawn.mean)]
    np.testing.assert_array_equal(*kept)
    assert jnp.all(hypernet.apply(drawn, hyperparams)["w"] != params["w"])
    assert jnp.all(hypernet.posterior.weights(key, phi, hyperparams)["w"] != params["w"])
    # KL of N(μ, ½²) from N(0, 1), for the nine numbers of the linear map.
    started = phi.mean.hypernet if behind else phi.mean
    means = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(started.response)])
    assert len(means) == 9
    expected = np.sum((means**2 + 0.25 - 1) / 2 - np.log(0.5))
    np.testing.assert_allclose(hypernet.posterior.divergence(key, phi), expected, rtol=1e-5)


def test_what_chunks_are_scaled_by_has_no_distribution(key):
    hypernet = bayesian(chunked(8, embedding=3, hidden=4), init_deviation=0.5)
    phi = hypernet.init(key, PARAMS, jnp.array([0.5, -1.0]))
    drawn = hypernet.posterior.draw(key, phi).mean
    jax.tree.map(np.testing.assert_array_equal, drawn.start, phi.mean.start)
    slope = jax.grad(lambda phi: hypernet.posterior.divergence(key, phi))(phi)
    assert not np.any([np.any(leaf) for leaf in jax.tree.leaves(slope.mean.start)])
    assert np.any(drawn.response.kernel != phi.mean.response.kernel)
