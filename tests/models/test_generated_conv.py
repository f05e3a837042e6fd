"""Kernels from embeddings, against sums in NumPy, Flax's own convolution, and the fan-in rule."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.models import GeneratedConv, KernelGenerator


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def generated(params, embedding):
    """K_i = W₁ (W₂_i z + c_i) + c₁, input channel by input channel."""
    slices = []
    for inner, offset in zip(params["W2"], params["W2_bias"], strict=True):
        a = embedding @ inner + offset
        slices.append(np.tensordot(a, params["W1"], 1) + params["W1_bias"])
    return slices


def random_params(module, *inputs):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def test_the_paper_s_kernel_takes_4244_numbers(key):
    layer = GeneratedConv(16, (7, 7), use_bias=False)
    shapes = jax.eval_shape(layer.init, key, jnp.zeros((1, 14, 14, 16)))
    assert count(shapes) == 4_244
    ordinary = nn.Conv(16, (7, 7), use_bias=False)
    assert count(jax.eval_shape(ordinary.init, key, jnp.zeros((1, 14, 14, 16)))) == 12_544


def test_it_is_flax_s_convolution_with_the_generated_kernel():
    """With strides, padding and a bias of its own, of four tiles that one generator makes."""
    generator = KernelGenerator((3, 2), 2, 3, hidden=2)
    options = {"strides": (2, 1), "padding": ((1, 0), (2, 1))}
    layer = GeneratedConv(6, (3, 2), embedding_size=5, generator=generator, **options)
    x = np.random.default_rng(1).normal(size=(2, 5, 6, 4)).astype(np.float32)
    params = random_params(layer, x)
    assert params["embeddings"].shape == (2, 2, 5)
    kernel = np.zeros((3, 2, 4, 6), np.float32)
    for row in range(2):
        for column in range(2):
            made = generated(params["generator"], params["embeddings"][row, column])
            for i, tile in enumerate(made):
                kernel[:, :, 2 * row + i, 3 * column : 3 * column + 3] = tile
    expected = nn.Conv(6, (3, 2), **options).apply(
        {"params": {"kernel": kernel, "bias": params["bias"]}}, x
    )
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-4)


class Shared(nn.Module):
    """Two layers of one generator."""

    @nn.compact
    def __call__(self, x):
        generator = KernelGenerator((3, 3), 4, 4, name="generator")
        x = GeneratedConv(4, (3, 3), generator=generator, name="small")(x)
        return GeneratedConv(8, (3, 3), generator=generator, name="large")(x)


def test_layers_that_share_a_generator_have_the_variances_of_their_own_fan_in(key):
    """Means over draws, for a z of four numbers is now long, now short."""
    x = jnp.zeros((1, 4, 4, 4))
    like = jax.eval_shape(Shared().init, key, x)["params"]
    assert set(like["large"]) == {"bias", "embeddings"}
    generator = KernelGenerator((3, 3), 4, 4)

    @jax.jit
    @jax.vmap
    def squares(key):
        params = Shared().init(key, x)["params"]
        make = {"params": params["generator"]}
        return [
            jnp.mean(generator.apply(make, params[name]["embeddings"]) ** 2)
            for name in ("small", "large")
        ]

    for square in squares(jax.random.split(key, 2_000)):
        assert np.mean(square) == pytest.approx(1 / 36, rel=0.1)


def test_kernels_that_tiles_don_t_fill_are_refused(key):
    generator = KernelGenerator((3, 3), 4, 4)
    for layer in (
        GeneratedConv(6, (3, 3), generator=generator),
        GeneratedConv(8, (5, 5), generator=generator),
    ):
        with pytest.raises(ValueError, match=r"tiles of shape \(3, 3, 4, 4\) fill, got \("):
            layer.init(key, jnp.zeros((1, 4, 4, 4)))
    with pytest.raises(ValueError, match="embedding_size to be a whole number"):
        GeneratedConv(6, (3, 3), embedding_size=0).init(key, jnp.zeros((1, 4, 4, 4)))
