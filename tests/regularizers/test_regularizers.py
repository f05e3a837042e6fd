"""Regularizers, against Flax's own dropout, SciPy's images and arrays by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage

import shohypernet as shn
from shohypernet import models, regularizers
from shohypernet.hyperparameters import decode, encode
from shohypernet.regularizers import _images as images
from shohypernet.regularizers._base import Model

SIDE = 9


class Dropping(nn.Module):
    """Two dropouts, one of them shared over an axis; and one that is never active."""

    rates: tuple[float, float] = (0.1, 0.1)

    @nn.compact
    def __call__(self, inputs, train=False):
        inputs = nn.Dropout(self.rates[0], name="first")(inputs, deterministic=not train)
        inputs = nn.Dropout(0.5, deterministic=True, name="never")(inputs)
        hidden = nn.Dense(6, name="dense")(inputs)
        second = nn.Dropout(
            self.rates[1], broadcast_dims=(0,), deterministic=not train, name="second"
        )
        return nn.Dense(2, name="out")(second(hidden))


MODES = {"train_kwargs": {"train": True}, "eval_kwargs": {"train": False}}
INPUTS = jax.random.normal(jax.random.key(1), (5, 4))
ONE_HOT = jax.nn.one_hot(jnp.array([0, 1, 1, 0, 1]), 2)


def cross_entropy(outputs, targets):
    return optax.softmax_cross_entropy(outputs, targets).mean()


def supervised(*parts, model=None, **kwargs):
    model = Dropping() if model is None else model
    return shn.supervised(model, INPUTS[:1], cross_entropy, regularizers=parts, **MODES, **kwargs)


def test_rates_are_those_of_flax_s_own_dropout(key):
    problem = supervised(regularizers.dropout(0.2))
    assert problem.start == {"dropout": {"first": 0.2, "second": 0.2}}
    params = problem.init(key)
    rates = {"first": jnp.float32(0.4), "second": jnp.float32(0.7)}
    found = problem.train_loss(params, {"dropout": rates}, (INPUTS, ONE_HOT), key)
    fixed = Dropping((0.4, 0.7))
    rngs = {"dropout": jax.random.split(key)[0]}
    outputs = fixed.apply({"params": params}, INPUTS, train=True, rngs=rngs)
    np.testing.assert_allclose(found, cross_entropy(outputs, ONE_HOT), rtol=1e-6)


def test_one_rate_for_the_whole_model(key):
    problem = supervised(regularizers.dropout(0.2, per="model"))
    assert problem.start == {"dropout": 0.2}
    each = supervised(regularizers.dropout(0.2))
    batch, params = (INPUTS, ONE_HOT), problem.init(key)
    same = dict.fromkeys(("first", "second"), jnp.float32(0.5))
    found = problem.train_loss(params, {"dropout": jnp.float32(0.5)}, batch, key)
    assert found == each.train_loss(params, {"dropout": same}, batch, key)


def test_a_rate_has_no_derivative_so_that_gradient_methods_refuse_it(key):
    problem = supervised(regularizers.dropout())
    data = shn.batches.Data(*[(INPUTS, ONE_HOT)] * 3)
    sgd = optax.sgd(0.1)
    method = shn.truncated(problem, optimizer=sgd, hyper_optimizer=sgd, backward_steps=1)
    with pytest.raises(ValueError, match="no derivative"):
        shn.fit(problem, method, data, steps=1)


def test_validation_drops_nothing(key):
    problem = supervised(regularizers.dropout(), regularizers.input_dropout())
    params = problem.init(key)
    outputs = Dropping().apply({"params": params}, INPUTS)
    found = problem.valid_loss(params, problem.start, (INPUTS, ONE_HOT))
    np.testing.assert_allclose(found, cross_entropy(outputs, ONE_HOT), rtol=1e-6)


def of(regularizer, values, inputs, targets=None, key=0):
    return regularizer.transform(jax.random.key(key), values, inputs, targets)


def test_dropped_inputs_are_zero_at_their_rate_and_the_mean_stays():
    inputs = jnp.ones((100, 200))
    found, _ = of(regularizers.input_dropout(), 0.3, inputs)
    np.testing.assert_allclose(np.mean(np.asarray(found) == 0), 0.3, atol=0.01)
    np.testing.assert_allclose(np.unique(found), [0, 1 / 0.7], rtol=1e-6)


def test_noise_multiplies_by_a_uniform_factor():
    found, _ = of(regularizers.input_noise(), 0.5, 2 * jnp.ones((100, 200)))
    factors = np.sort(np.asarray(found).ravel() / 2)
    expected = np.linspace(1 / 1.5, 1.5, factors.size)
    np.testing.assert_allclose(factors, expected, atol=0.01)


def test_smoothed_labels():
    _, found = of(regularizers.label_smoothing(), 0.1, None, jnp.array([[0.0, 1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.025, 0.925, 0.025, 0.025]], rtol=1e-6)


def test_mixed_examples_are_convex_combinations_with_the_one_before():
    inputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    mixed, targets = of(regularizers.mixup(), 1.0, inputs, jnp.eye(3))
    share = np.diagonal(np.asarray(targets))
    expected = share[:, None] * np.eye(3) + (1 - share)[:, None] * np.roll(np.eye(3), 1, axis=0)
    np.testing.assert_allclose(targets, expected, rtol=1e-6)
    np.testing.assert_allclose(mixed, expected @ inputs, rtol=1e-6, atol=1e-7)
    assert np.all((share > 0) & (share < 1))
    assert len(np.unique(share)) == 3


def test_mixup_of_single_examples_is_refused():
    with pytest.raises(ValueError, match="examples_per_draw=2"):
        of(regularizers.mixup(), 1.0, jnp.ones((1, 2)), jnp.ones((1, 2)))


@pytest.mark.parametrize("part", [regularizers.label_smoothing(), regularizers.mixup()])
def test_labels_that_are_numbers_can_not_be_mixed(part):
    with pytest.raises(ValueError, match="one-hot"):
        of(part, 0.1, jnp.ones((2, 2)), jnp.array([0, 1]))


# --- images -------------------------------------------------------------------------------------


def picture(channels=1):
    return np.random.default_rng(0).uniform(size=(1, SIDE, SIDE, channels)).astype(np.float32)


@pytest.mark.parametrize("offset", [(2, -3), (0.5, 0), (-1.25, 0.75)])
def test_shifts_are_scipy_s(offset):
    image = picture(2)
    found = images.resampled(image, jnp.ones((2, 1)), jnp.float32(offset)[:, None])
    expected = scipy.ndimage.shift(image[0], (*offset, 0), order=1, mode="grid-constant")
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_enlarged_about_the_center_as_scipy_does():
    image, factor = picture(), 1.3
    found = images.resampled(image, jnp.full((2, 1), factor), jnp.zeros((2, 1)))
    center = (SIDE - 1) / 2 * (1 - 1 / factor)
    expected = scipy.ndimage.affine_transform(
        image[0, ..., 0], [1 / factor] * 2, center, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("degrees", [90, 10, -33])
def test_turned_as_scipy_does(degrees):
    image = picture(2)
    found = images.rotated(jnp.asarray(image), jnp.deg2rad(jnp.float32([degrees])))
    expected = scipy.ndimage.rotate(
        image[0], degrees, axes=(1, 0), reshape=False, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("part", "function", "scale"),
    [
        (regularizers.translate(shape=(SIDE, SIDE)), "resampled", 1),
        (regularizers.rotate(shape=(SIDE, SIDE)), "rotated", np.pi / 180),
    ],
)
def test_strengths_are_standard_deviations(part, function, scale, monkeypatch):
    seen = []

    def spy(images, *amounts):
        seen.append(np.asarray(amounts[-1]) / scale)
        return images

    monkeypatch.setattr(images, function, spy)
    of(part, 2.5, jnp.ones((2_000, SIDE * SIDE)))
    np.testing.assert_allclose(np.std(seen[0]), 2.5, rtol=0.05)
    np.testing.assert_allclose(np.mean(seen[0]), 0, atol=0.15)


def test_holes_are_squares_of_whole_sides():
    part = regularizers.cutout(most_holes=2, longest_side=4)
    inputs = jnp.ones((300, SIDE, SIDE, 2))
    found = np.asarray(of(part, {"holes": 1.9, "side": 3.9}, inputs)[0])
    assert np.all(found[..., 0] == found[..., 1])
    for image in found[..., 0]:
        rows, columns = np.nonzero(image == 0)
        inside = (
            rows.min() >= 1,
            rows.max() < SIDE - 1,
            columns.min() >= 1,
            columns.max() < SIDE - 1,
        )
        heights = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == np.prod(heights)  # one full rectangle
        assert max(heights) <= 3
        if all(inside):
            assert heights == (3, 3)
    # Its center is uniform over the pixels.
    covered = (found[..., 0] == 0).mean(0)
    np.testing.assert_allclose(covered[2:-2, 2:-2].mean(), 9 / SIDE**2, rtol=0.15)


@pytest.mark.parametrize("values", [{"holes": 0.9, "side": 3.0}, {"holes": 2.0, "side": 0.9}])
def test_no_whole_hole_leaves_images_as_they_are(values):
    part = regularizers.cutout(most_holes=2, longest_side=4, shape=(SIDE, SIDE))
    inputs = jnp.ones((20, SIDE * SIDE))
    np.testing.assert_array_equal(of(part, values, inputs)[0], inputs)


def test_brightness_adds_one_number_to_an_image():
    inputs = jnp.asarray(np.repeat(picture(), 500, axis=0))
    added = np.asarray(of(regularizers.brightness(), 0.2, inputs)[0] - inputs)
    np.testing.assert_allclose(np.ptp(added, axis=(1, 2, 3)), 0, atol=1e-6)
    assert -0.2 < added.min() < -0.19
    assert 0.19 < added.max() < 0.2


def test_contrast_keeps_the_mean_and_scales_distances_from_it():
    inputs = jnp.asarray(np.repeat(picture(), 500, axis=0))
    found = np.asarray(of(regularizers.contrast(), 0.5, inputs)[0])
    np.testing.assert_allclose(found.mean((1, 2, 3)), inputs.mean((1, 2, 3)), rtol=1e-4)
    ratios = found.std((1, 2, 3)) / np.asarray(inputs).std((1, 2, 3))
    assert 1 / 1.5 <= ratios.min() < 0.69
    assert 1.47 < ratios.max() <= 1.5 + 1e-4


@pytest.mark.parametrize(
    "inputs", [jnp.ones((2, 80)), jnp.ones((2, 9, 9)), jnp.ones((2, 81), jnp.uint8)]
)
def test_inputs_that_are_no_images_are_refused(inputs):
    shape = (SIDE, SIDE) if inputs.ndim == 2 else None
    with pytest.raises(ValueError, match="needs images"):
        of(regularizers.translate(shape=shape), 1.0, inputs)


# --- penalties and weights ----------------------------------------------------------------------


def test_decays_by_layer_leave_biases_alone(key):
    problem = supervised(regularizers.weight_decay(1e-3))
    params = jax.tree.map(lambda leaf: leaf + 1, problem.init(key))
    decays = {"dense": 0.5, "out": 2.0}
    plain = supervised(regularizers.label_smoothing())
    batch, none = (INPUTS, ONE_HOT), {"label_smoothing": 0.0}
    found = problem.train_loss(params, {"weight_decay": decays}, batch, key)
    tree = {name: {"kernel": decay} for name, decay in decays.items()}
    expected = plain.train_loss(params, none, batch, key) + shn.penalties.weight_decay(params, tree)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "inputs", "layers"),
    [
        (
            nn.RNN(models.HyperLSTMCell(3, hyper_features=2, embedding=2)),
            (1, 2, 4),
            {
                *(f"cell/{name}" for name in ("inputs", "recurrent", "hyper/inputs")),
                *("cell/hyper/recurrent", "cell/biases", "cell/biases/DenseGeneral_0"),
                *(f"cell/{part}_scales" for part in ("input", "recurrent")),
                *(f"cell/{part}_scales/DenseGeneral_0" for part in ("input", "recurrent")),
            },
        ),
        (models.GeneratedConv(2, (3, 3)), (1, 5, 5, 2), {"model", "generator"}),
        (
            nn.MultiHeadDotProductAttention(2),
            (1, 3, 4),
            {"query", "key", "value", "out"},
        ),
    ],
)
def test_offsets_and_scales_of_several_axes_are_no_matrices(module, inputs, layers, key):
    """At weights of one, the penalty's slope is 2 λ in matrices and 0 elsewhere."""
    described = Model(jax.eval_shape(module.init, key, jnp.zeros(inputs))["params"], ())
    decay = regularizers.weight_decay(1e-3)
    start = decay.start(described)
    assert set(start) == layers
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), described.params)
    slopes = jax.grad(lambda params: decay.penalty(start, params))(ones)
    for path, slope in jax.tree.leaves_with_path(slopes):
        is_matrix = path[-1].key in {"kernel", "D", "W1", "W2", "embeddings"}
        np.testing.assert_allclose(slope, np.full(slope.shape, 2e-3 * is_matrix), rtol=1e-6)


def test_weights_of_examples_and_of_classes(key):
    numbers = jnp.array([3, 0, 2, 2, 1])
    parts = regularizers.example_weights(4, 0.25), regularizers.class_weights(2)
    problem = shn.supervised(nn.Dense(2), INPUTS[:1], cross_entropy, regularizers=parts)
    np.testing.assert_array_equal(problem.start["example_weights"], np.full(4, 0.25))
    params = problem.init(key)
    values = {
        "example_weights": jnp.array([0.1, 0.2, 0.3, 0.4]),
        "class_weights": jnp.array([2.0, 0.5]),
    }
    found = problem.train_loss(params, values, (INPUTS, ONE_HOT, numbers), key)
    outputs = INPUTS @ params["kernel"] + params["bias"][None]
    losses = np.asarray(optax.softmax_cross_entropy(outputs, ONE_HOT))
    of_class = np.array([2.0, 0.5, 0.5, 2.0, 0.5])
    of_example = np.array([0.4, 0.1, 0.3, 0.3, 0.2])
    np.testing.assert_allclose(found, np.mean(losses * of_class * of_example), rtol=1e-6)
    valid = problem.valid_loss(params, values, (INPUTS, ONE_HOT, numbers))
    np.testing.assert_allclose(valid, losses.mean(), rtol=1e-6)


def test_example_weights_need_numbers(key):
    problem = shn.supervised(
        nn.Dense(2), INPUTS[:1], cross_entropy, regularizers=[regularizers.example_weights(4)]
    )
    with pytest.raises(ValueError, match=r"inputs, targets, numbers"):
        problem.train_loss(problem.init(key), problem.start, (INPUTS, ONE_HOT), key)


# --- together -----------------------------------------------------------------------------------


def test_a_penalty_of_one_s_own_shares_the_space(key):
    problem = supervised(
        regularizers.label_smoothing(0.1),
        penalty=lambda params, hyperparams: hyperparams["mine"],
        space={"mine": shn.hyperparameters.real()},
    )
    values = {"mine": 3.0, **problem.start}
    codes = encode(problem.space, values)
    np.testing.assert_allclose(decode(problem.space, codes)["label_smoothing"], 0.1, rtol=1e-6)
    params = problem.init(key)
    batch = INPUTS, ONE_HOT
    without = problem.train_loss(params, {**values, "mine": 0.0}, batch, key)
    found = problem.train_loss(params, values, batch, key)
    np.testing.assert_allclose(found - without, 3, rtol=1e-6)


def test_the_same_list_serves_a_search_and_self_tuning():
    parts = [regularizers.dropout(0.2), regularizers.weight_decay(), regularizers.input_noise()]
    problem = supervised(*parts)
    data = shn.batches.Data(*[(INPUTS, ONE_HOT)] * 3)
    adam = optax.adam(1e-2)
    searched = shn.search.run(
        problem, shn.search.random_search(steps=2), data, optimizer=adam, budget=6
    )
    method = shn.self_tuning(problem, optimizer=adam, hyper_optimizer=adam)
    tuned = shn.fit(problem, method, data, steps=3, inner_steps=2)
    names = jax.tree.structure(problem.start)
    assert jax.tree.structure(searched.hyperparams) == names
    assert jax.tree.structure(tuned.hyperparams) == names
    moved = jax.tree.map(
        lambda end, first: bool(end != jnp.float32(first)), tuned.hyperparams, problem.start
    )
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([regularizers.dropout], TypeError, "sequence of regularizers"),
        (["dropout"], TypeError, "sequence of regularizers"),
        ([regularizers.dropout(), regularizers.dropout()], ValueError, "two regularizers"),
    ],
)
def test_wrong_regularizers_are_refused(parts, error, message):
    with pytest.raises(error, match=message):
        supervised(*parts)


def test_a_model_without_dropout_has_no_rates():
    with pytest.raises(ValueError, match=r"no active nn\.Dropout"):
        shn.supervised(
            nn.Dense(2), INPUTS[:1], cross_entropy, regularizers=[regularizers.dropout()]
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: regularizers.dropout(0.95),
        lambda: regularizers.translate(-1.0),
        lambda: regularizers.weight_decay(1.0),
        lambda: regularizers.cutout((7.0, 2.0)),
        lambda: regularizers.dropout(per="unit"),
        lambda: regularizers.weight_decay(per="unit"),
        lambda: regularizers.example_weights(4, 1.0),
    ],
)
def test_starts_outside_their_range_are_refused_at_once(make):
    with pytest.raises(ValueError, match=r"strictly inside|needs"):
        make()


def test_a_problem_without_a_start_asks_for_one():
    problem = shn.supervised(nn.Dense(2), INPUTS[:1], cross_entropy, lambda params, decay: decay)
    data = shn.batches.Data(*[(INPUTS, ONE_HOT)] * 3)
    sgd = optax.sgd(0.1)
    method = shn.truncated(problem, optimizer=sgd, hyper_optimizer=sgd, backward_steps=1)
    with pytest.raises(ValueError, match="needs hyperparameters to start from"):
        shn.fit(problem, method, data, steps=1)
