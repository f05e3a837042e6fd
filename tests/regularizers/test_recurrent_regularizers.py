"""DropConnect and penalties of activations, by hand and by counting."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import shohypernet as shn
from shohypernet import regularizers
from shohypernet._internal.layers import layers_of
from shohypernet.hypertraining import _perturbed_losses as perturbed
from shohypernet.hypertraining import _structured_response as structured
from shohypernet.hypertraining._perturbed_losses import Distribution, Network
from shohypernet.problem import unconstrained

TEXT = jax.random.normal(jax.random.key(1), (4, 5, 3))
NOTHING = jnp.zeros(4)


class Recurrent(nn.Module):
    """Sequences to predictions, and the states on the way."""

    cell: nn.RNNCellBase

    @nn.compact
    def __call__(self, inputs):
        states = nn.RNN(self.cell)(inputs)
        return nn.Dense(2, name="out")(states[:, -1]), states


def error(outputs, targets):
    return jnp.mean(jnp.square(outputs[0] - targets[:, None]))


def states(outputs):
    return outputs[1]


def built(*parts, cell=None):
    model = Recurrent(cell or nn.SimpleCell(6))
    return model, shn.supervised(model, TEXT[:1], error, regularizers=parts)


@pytest.mark.parametrize(
    ("cell", "dropped"),
    [
        (nn.SimpleCell(4), {"cell/h/kernel"}),
        (nn.LSTMCell(4), {f"cell/h{gate}/kernel" for gate in "ifgo"}),
        (nn.GRUCell(4), {f"cell/h{gate}/kernel" for gate in "rzn"}),
    ],
    ids=["simple", "LSTM", "GRU"],
)
def test_weights_from_state_to_state_are_dropped_and_no_others(cell, dropped, key):
    params = built(cell=cell)[1].init(key)
    made = regularizers.dropconnect().perturb(key, 0.5, params)
    changed = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, same in jax.tree.leaves_with_path(jax.tree.map(np.array_equal, params, made))
        if not same
    }
    assert changed == dropped


def test_a_share_of_the_weights_is_dropped_and_the_others_are_scaled_up(key):
    weights = {"h": {"kernel": jax.random.normal(key, (100, 100))}}
    made = regularizers.dropconnect().perturb(key, 0.3, weights)["h"]["kernel"]
    kept = np.asarray(made) != 0
    before = np.asarray(weights["h"]["kernel"])
    np.testing.assert_allclose(np.asarray(made)[kept], before[kept] / 0.7, rtol=1e-5)
    assert stats.binomtest(int(kept.sum()), kept.size, 0.7).pvalue > 1e-4


def test_the_training_loss_meets_the_weights_that_are_left(key):
    """At a rate of nearly 1 a recurrent network is one without recurrence."""
    model, problem = built(regularizers.dropconnect(0.5, high=1.0 - 1e-6))
    params = problem.init(key)
    alone = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if "h" in str(path) else leaf, params
    )
    rate = {"dropconnect": jnp.float32(1 - 1e-6)}
    found = problem.train_loss(params, rate, (TEXT, NOTHING), key)
    expected = error(model.apply({"params": alone}, TEXT), NOTHING)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    whole = error(model.apply({"params": params}, TEXT), NOTHING)
    assert abs(float(whole - expected)) > 1e-3
    np.testing.assert_allclose(problem.valid_loss(params, rate, (TEXT, NOTHING)), whole)


def test_a_pattern_that_finds_nothing_is_told_what_there_is():
    with pytest.raises(ValueError, match=r"finds no weights among .*out/kernel"):
        built(regularizers.dropconnect(match="recurrent"))
    assert built(regularizers.dropconnect(match="out"))[1].start == {"dropconnect": 0.05}


def test_penalties_of_activations_by_hand(key):
    model, problem = built(
        regularizers.activation_penalty(states), regularizers.temporal_activation_penalty(states)
    )
    params = problem.init(key)
    values = {"activation_penalty": 0.3, "temporal_activation_penalty": 0.7}
    outputs = model.apply({"params": params}, TEXT)
    h = np.asarray(outputs[1], np.float64)
    expected = float(error(outputs, NOTHING)) + 0.3 * np.mean(h**2)
    expected += 0.7 * np.mean((h[:, 1:] - h[:, :-1]) ** 2)
    found = problem.train_loss(params, values, (TEXT, NOTHING), key)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="activation_penalty"):
        regularizers.activation_penalty(states, start=20.0)


def test_every_example_has_a_penalty_and_a_mask_of_its_own(key):
    """Self-tuning's loss, with no response: strengths λ_b by hand, each on its own states."""
    model, problem = built(regularizers.activation_penalty(states), regularizers.dropconnect(1e-6))
    inner = unconstrained(problem)
    network = Network(inner, layers_of(inner), linearized=True, examples_per_draw=1)
    params = problem.init(key)
    responses = jax.tree.map(
        jnp.zeros_like, structured.init(key, network.layers, params, 2, scale=1.0)
    )
    spec = problem.space
    center = shn.hyperparameters.encode(spec, {"activation_penalty": 0.1, "dropconnect": 1e-6})
    scales = {"activation_penalty": jnp.float32(0.5), "dropconnect": jnp.float32(-20.0)}
    at = Distribution(center, scales), params, responses, (), (TEXT, NOTHING), key
    found = perturbed.train_loss(network, *at)
    steps = perturbed._steps(at[0], jax.random.split(key, 3)[0], 4)[:, 0]
    each = shn.hyperparameters.decode(
        spec["activation_penalty"], center["activation_penalty"] + steps
    )
    outputs, h = model.apply({"params": params}, TEXT)
    expected = np.mean(np.square(outputs)) + np.mean(each * np.mean(np.square(h), (1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    # At a rate of ½ each of the four has another mask, and none of them all weights.
    half = shn.hyperparameters.encode(spec, {"activation_penalty": 0.1, "dropconnect": 0.5})
    dropped = perturbed.train_loss(network, at[0]._replace(center=half), *at[1:])
    assert abs(float(dropped - found)) > 1e-4


def test_one_network_tunes_them_all(key):
    _, problem = built(
        regularizers.activation_penalty(states),
        regularizers.temporal_activation_penalty(states),
        regularizers.dropconnect(0.3),
    )
    method = shn.self_tuning(
        problem, optimizer=optax.adam(1e-2), hyper_optimizer=optax.adam(1e-1), examples_per_draw=2
    )
    data = shn.batches.Data(*[(TEXT, NOTHING)] * 3)
    start = problem.start
    result = shn.fit(problem, method, data, steps=3, inner_steps=2, progress=False)
    moved = jax.tree.map(lambda new, old: abs(float(new) - old) > 1e-6, result.hyperparams, start)
    assert all(jax.tree.leaves(moved))
