"""SMASH at a small size: masked networks against small ones, and its statistics by hand."""

import itertools
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from configs import smash as configs
from experiments import _architectures, _launch, _rankings, _smash_hypernet, smash
from experiments._architectures import Architecture, Space
from experiments._rankings import Rankings
from experiments._smash_networks import Cost, Losses
from experiments._smash_plot import HYPERNET, SHUFFLED, SIZE
from shohypernet.batches import Examples

CONFIG = pathlib.Path(configs.__file__)
SPACE = Space((1, 2, 3), (1, 3, 5), 2)


def architecture(*layers):
    """Of a width, a kernel size and a skip connection for each layer; None for a missing block."""
    rows = [
        ([0] * 3, [0] * 3, 0)
        if layer is None
        else (
            [w == layer[0] for w in SPACE.widths],
            [k == layer[1] for k in SPACE.kernels],
            layer[2],
        )
        for layer in layers
    ]
    return Architecture(*(jnp.array(part, jnp.float32) for part in zip(*rows, strict=True)))


SMALL = {
    "narrow, then wide with a skip": ((2, 3, 0), (3, 5, 1), (1, 1, 1)),
    "one block": ((3, 5, 0), (2, 3, 0), None),
    "one block of single pixels": ((1, 1, 0), (2, 1, 1), None),
}


@pytest.mark.slow
def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(smash.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 4
    names = {path.name for path in folder.iterdir()}
    assert names == {"smash.png", "smash.pdf", "smash.npz", "config.json", "results.json", "fit"}
    with np.load(folder / "smash.npz") as arrays:
        tested, scores = arrays["trained: test"].mean(0), arrays[HYPERNET]
        assert arrays["found: test"].shape == arrays["trained: test"][:, :2].shape == (2, 2)
    for score, rho in zip(scores, results["each"][HYPERNET], strict=True):
        assert rho == pytest.approx(stats.spearmanr(score, tested).statistic)
    # 8 losses of 100 images for each update of the weights with 10: four updates and 80/3 of one.
    assert results["costs"]["search"]["gradients"] == pytest.approx(4 + 80 / 3 + 3)


class Small(nn.Module):
    """A network without masks."""

    layers: tuple

    @nn.compact
    def __call__(self, images):
        x = images.reshape(-1, 14, 2, 14, 2).mean((2, 4))[..., None]
        for i, (width, kernel, skip) in enumerate(self.layers):
            sizes = {"strides": 1 if i else 2, "padding": kernel // 2, "name": f"conv_{i}"}
            made = nn.elu(nn.Conv(width, (kernel, kernel), **sizes)(x))
            if skip:
                shared = min(width, x.shape[-1])
                made = made.at[..., :shared].add(x[..., :shared])
            x = made
        return nn.Dense(10, name="head")(x.reshape(len(x), -1))


def cut(tree, layers):
    """The arrays of a small network within those of the largest."""
    cuts, inputs = {}, 1
    for i, (width, kernel, _) in enumerate(layers):
        middle = slice(2 - kernel // 2, 3 + kernel // 2)
        made = tree[f"conv_{i}"]
        kept = made["kernel"][middle, middle, :inputs, :width]
        cuts[f"conv_{i}"] = {"kernel": kept, "bias": made["bias"][:width]}
        inputs = width
    head = tree["head"]["kernel"].reshape(7, 7, SPACE.widths[-1], 10)[:, :, :inputs]
    cuts["head"] = {"kernel": head.reshape(-1, 10), "bias": tree["head"]["bias"]}
    return cuts


def scaled(tree):
    """He et al.'s scale of every kernel, by its own number of inputs."""

    def one(leaf):
        return leaf * np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else leaf

    return jax.tree.map(one, tree)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    inputs = jnp.float32(rng.uniform(size=(5, 784)))
    return Examples(inputs, jnp.eye(10)[rng.integers(10, size=5)])


@pytest.fixture(scope="module")
def largest():
    problem = _architectures.problem(SPACE)
    return problem, problem.init(jax.random.key(0)), jax.jit(jax.value_and_grad(problem.valid_loss))


@pytest.mark.parametrize("layers", SMALL.values(), ids=SMALL)
def test_a_masked_network_is_the_small_one(largest, batch, layers):
    _, params, value_and_grad = largest
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # so that biases aren't 0
    there = tuple(layer for layer in layers if layer)

    def loss(weights):
        logits = Small(there).apply({"params": scaled(weights)}, batch.inputs)
        return optax.softmax_cross_entropy(logits, batch.targets).mean()

    value, gradient = value_and_grad(params, architecture(*layers), batch)
    expected, slopes = jax.value_and_grad(loss)(cut(params, there))
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    found = cut(gradient, there)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, slopes)
    # Nothing else has a gradient, and the number of weights is that of what is there.
    nonzero = sum(int(np.sum(leaf != 0)) for leaf in jax.tree.leaves(gradient))
    assert nonzero <= sum(leaf.size for leaf in jax.tree.leaves(slopes))
    assert nonzero == sum(int(np.sum(leaf != 0)) for leaf in jax.tree.leaves(found))
    size = sum(leaf.size for leaf in jax.tree.leaves(slopes))
    assert int(_architectures.size(SPACE, architecture(*layers))) == size


def test_random_architectures_differ_and_have_one_choice_in_every_layer_that_is_there():
    drawn = _architectures.distinct(SPACE, jax.random.key(0), 200)
    assert len({np.concatenate([leaf.ravel() for leaf in each]).tobytes() for each in drawn}) == 200
    width, kernel, skip = (np.stack(leaves) for leaves in zip(*drawn, strict=True))
    present = width.sum(-1)
    np.testing.assert_array_equal(present, kernel.sum(-1))
    np.testing.assert_array_equal(present[:, :2], 1)
    assert set(present[:, 2]) == set(skip[:, 1]) == {0, 1}
    assert np.all(skip <= present)
    assert not skip[:, 0].any()


def test_more_architectures_than_there_are_are_refused():
    with pytest.raises(ValueError, match="different architectures and not 10"):
        _architectures.distinct(Space((1,), (1, 3), 1), jax.random.key(0), 10)


@pytest.mark.parametrize(
    ("widths", "kernels", "blocks", "expected"),
    [
        ((4, 2), (1, 3), 1, r"widths must be positive and rise, got \(4, 2\)"),
        ((0, 2), (1, 3), 1, "widths must be positive"),
        ((2, 4), (3, 3), 1, "kernels must be positive and rise"),
        ((2, 4), (1, 2), 1, "kernels must be odd"),
        ((2, 4), (1, 3), 0, "blocks must be 1 or more, got 0"),
    ],
)
def test_spaces_that_it_refuses(widths, kernels, blocks, expected):
    with pytest.raises(ValueError, match=expected):
        _architectures.build_space(widths, kernels, blocks)


def test_shuffled_encodings_are_fixed_and_tell_nothing():
    drawn = _architectures.distinct(SPACE, jax.random.key(0), 300)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    first, second = (
        jax.vmap(lambda each: _smash_hypernet.another(SPACE, each))(stacked) for _ in range(2)
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)
    for own, other in zip(stacked, first, strict=True):
        flat = np.hstack([own.reshape(300, -1), other.reshape(300, -1)])
        flat = flat[:, flat.std(0) > 0]
        of_own = np.sum(own.reshape(300, -1).std(0) > 0)
        across = np.corrcoef(flat.T)[:of_own, of_own:]
        assert np.abs(across).max() < 5 / np.sqrt(300)


def test_rank_correlations_are_those_of_scipy_and_intervals_hold_them():
    rng = np.random.default_rng(0)
    losses = rng.normal(size=30)
    scores = {
        "same": np.exp(losses)[None],
        "noisy": losses + rng.normal(size=(2, 30)),
        "reversed": -losses[None],
    }
    found = _rankings.rankings(losses, scores, 200)
    for name, runs in scores.items():
        expected = [stats.spearmanr(losses, run).statistic for run in runs]
        np.testing.assert_allclose(found.each[name], expected)
    assert found.interval("same") == pytest.approx((1, 1, 1))
    assert found.interval("same", less="reversed") == pytest.approx((2, 2, 2))
    mean, low, high = found.interval("noisy")
    # Fisher's interval of one run, of which the mean of two has less.
    half = 1.96 / np.sqrt(30 - 3)
    assert np.tanh(np.arctanh(mean) - 2 * half) < low < mean < high < 1
    runs = np.stack([losses, losses, -losses])
    assert _rankings.agreement(runs) == pytest.approx((1 - 1 - 1) / 3)


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_random_search_is_the_mean_over_all_choices(count):
    rng = np.random.default_rng(0)
    valid, test = rng.normal(size=(2, 6))
    choices = [list(each) for each in itertools.combinations(range(6), count)]
    expected = np.mean([test[each][np.argmin(valid[each])] for each in choices])
    assert _rankings.best_of(valid, test, count) == pytest.approx(expected)


def test_random_search_costs_no_less_in_gradients_or_in_seconds():
    losses = Losses(*np.random.default_rng(0).normal(size=(3, 2, 6)))
    # Training the best is a part of the cost: 10 gradients, and 2 seconds.
    searched = smash.search(losses, losses, Cost(15, 17), Cost(10, 2))
    assert searched.cost == (25, 19)
    assert searched.due == (3, 10)
    for i in range(2):
        expected = _rankings.best_of(losses.valid[i], losses.test[i], 3)
        assert searched.random[0][i] == pytest.approx(expected)
        assert searched.random[1][i] == losses.test[i][np.argmin(losses.valid[i])]


@pytest.mark.parametrize(
    ("rho", "found", "due", "expected"),
    [
        ((0.9, 0.5, 0.6), 0.1, 5, [True, True, True, True]),
        ((0.9, 0.95, 0.6), 0.3, 5, [True, False, True, False]),
        ((0.9, 0.5, 0.6), 0.22, 5, [True, True, True, False]),
        ((0.5, 0.4, 0.6), 0.1, 9, [True, True, False, None]),
        ((-0.1, -0.2, -0.3), 0.3, 9, [False, True, True, False]),
    ],
)
def test_its_claims_can_fail(rho, found, due, expected):
    each = dict(zip((HYPERNET, SHUFFLED, SIZE), (np.array([r]) for r in rho), strict=True))
    drawn = {name: value + np.linspace(-0.01, 0.01, 99) for name, value in each.items()}
    losses = Losses(*np.full((3, 2, 2), found))
    searched = smash.Search(losses, Cost(1, 1), (3, due), (np.full(2, 0.25), np.full(2, 0.2)))
    found = smash.claims(Rankings(each, drawn), searched, 500, networks=5)
    assert [claim["holds"] for claim in found] == expected
